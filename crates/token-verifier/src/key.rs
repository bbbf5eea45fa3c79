//! A key together with its algorithm.

use std::fmt;

use aws_lc_rs::{hmac, signature::ParsedPublicKey};
use serde_json::Value;
use thiserror::Error;

use crate::public_key::PublicKey;
use crate::spki;

/// The shortest HS256 secret: the size of the hash, as RFC 7518 section 3.2 requires.
const MIN_SECRET_BYTES: usize = 32;

/// A signature algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA on Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
}

impl Algorithm {
    /// The registered name, as it is used in a token's `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    /// Parses a name. Names are case-sensitive (RFC 7515 section 4.1.1). `Ed25519` is RFC 9864 section
    /// 2.2's name for EdDSA on that curve, which is the only one that is supported here.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        [Self::Rs256, Self::Es256, Self::EdDsa, Self::Hs256]
            .into_iter()
            .find(|a| a.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a key, or a document of keys, is refused. No message contains key material.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A shared secret is shorter than 32 bytes (RFC 7518 section 3.2).
    #[error("the secret has {bytes} bytes, HS256 needs at least 32")]
    ShortSecret {
        /// The length of the secret.
        bytes: usize,
    },
    /// A shared secret is expected but a PEM text was given. A public key is not a secret.
    #[error("the secret is a PEM file: a key pair belongs in the setting for key files")]
    SecretIsPem,
    /// The text is not exactly one well-formed PEM block (RFC 7468).
    #[error("not a PEM file with exactly one block")]
    NotPem,
    /// The PEM block or DER data is not a public key (RFC 7468 section 13).
    #[error("not a public key in SPKI form (\"BEGIN PUBLIC KEY\")")]
    NotSpki,
    /// A private or secret key was given where only a public one is allowed.
    #[error("this is a private key: a verifier needs the public key only")]
    PrivateKey,
    /// No supported algorithm uses the key type or curve.
    #[error("unsupported key type: RSA, P-256 and Ed25519 keys are supported")]
    UnsupportedType,
    /// The RSA modulus does not have 2048 to 8192 bits (RFC 7518 section 3.3).
    #[error("the RSA key has {bits} bits, supported are 2048 to 8192")]
    RsaSize {
        /// The length of the modulus.
        bits: usize,
    },
    /// Numbers are missing, wrongly encoded, or do not form a valid key.
    #[error("the key is malformed")]
    Malformed,
    /// The `use` or `key_ops` of the JWK excludes verifying signatures (RFC 7517 sections 4.2 and 4.3).
    #[error("the key is not meant for checking signatures")]
    NotForSignatures,
    /// The `alg` of the JWK is not the one that its type implies (RFC 7517 section 4.4).
    #[error("the key's alg contradicts its type")]
    AlgorithmMismatch,
    /// The document is not a JWK Set (RFC 7517 section 5).
    #[error("not a JWK set: a JSON object with an array \"keys\"")]
    NotJwks,
}

#[derive(Clone)]
enum Material {
    Secret(Box<hmac::Key>),
    Public { numbers: PublicKey, prepared: ParsedPublicKey },
}

/// A key and the only algorithm that it may be used with (RFC 8725 section 3.1).
#[derive(Clone)]
pub struct VerificationKey {
    material: Material,
    kid: Option<String>,
    thumbprint: Option<String>,
    from_file: bool,
}

impl VerificationKey {
    /// An HS256 key (RFC 7518 section 3.2) without a `kid`. The bytes are used as they are.
    ///
    /// # Errors
    ///
    /// [`KeyError::ShortSecret`] below 32 bytes; [`KeyError::SecretIsPem`] for a PEM text, because
    /// otherwise anybody with the public key could sign.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.windows(11).any(|window| window == b"-----BEGIN ") {
            return Err(KeyError::SecretIsPem);
        }
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret { bytes: secret.len() });
        }
        Ok(Self {
            material: Material::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))),
            kid: None,
            thumbprint: None,
            from_file: true,
        })
    }

    /// A public key from a PEM file (`PUBLIC KEY`, RFC 7468 section 13). The type determines the
    /// algorithm: RS256 for RSA, ES256 for P-256, EdDSA for Ed25519. The `kid` is the thumbprint (RFC
    /// 7638).
    ///
    /// # Errors
    ///
    /// [`KeyError`] for anything else, such as private keys, certificates, other key types, or RSA keys
    /// under 2048 bits.
    pub fn from_public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        Self::from_file(spki::from_pem(pem)?)
    }

    /// The same as [`Self::from_public_pem`] for the DER form (SubjectPublicKeyInfo, RFC 5280
    /// section 4.1.2.7).
    ///
    /// # Errors
    ///
    /// [`KeyError`] as for [`Self::from_public_pem`].
    pub fn from_public_der(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_file(spki::from_der(der)?)
    }

    /// A public key from a JWK (RFC 7517 section 4). The `kid` is that of the JWK, or the thumbprint
    /// (RFC 7638) if it has none.
    ///
    /// # Errors
    ///
    /// [`KeyError`] for a key that is private, symmetric, not for signatures (`use`, `key_ops`), of an
    /// unsupported type, too small, or whose `alg` contradicts its type.
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyError> {
        let members = jwk.as_object().ok_or(KeyError::Malformed)?;
        let kid = match members.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(KeyError::Malformed)?.to_owned()),
        };
        let mut key = Self::public(PublicKey::from_jwk(members)?)?;
        key.kid = kid.or(key.kid);
        Ok(key)
    }

    fn from_file(numbers: PublicKey) -> Result<Self, KeyError> {
        Ok(Self { from_file: true, ..Self::public(numbers)? })
    }

    fn public(numbers: PublicKey) -> Result<Self, KeyError> {
        let prepared = numbers.prepare()?;
        let thumbprint = numbers.thumbprint();
        Ok(Self {
            material: Material::Public { numbers, prepared },
            kid: Some(thumbprint.clone()),
            thumbprint: Some(thumbprint),
            from_file: false,
        })
    }

    /// The identifier that a token's `kid` names (RFC 7515 section 4.1.4). `None` for a secret.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm that this key is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Public { numbers, .. } => numbers.algorithm(),
        }
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638). `None` for a secret.
    #[must_use]
    pub fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// The public JWK with `kid`, `use` and `alg` (RFC 7517 section 4). `None` for a secret.
    #[must_use]
    pub fn to_jwk(&self) -> Option<Value> {
        let Material::Public { numbers, .. } = &self.material else {
            return None;
        };
        let mut jwk = numbers.required_members();
        if let Value::Object(members) = &mut jwk {
            members.extend(self.kid.clone().map(|kid| ("kid".to_owned(), Value::String(kid))));
            members.insert("use".to_owned(), "sig".into());
            members.insert("alg".to_owned(), self.algorithm().as_str().into());
        }
        Some(jwk)
    }

    /// Whether an operator configured the key by hand, so that it does not come from a JWKS.
    pub(crate) fn is_from_file(&self) -> bool {
        self.from_file
    }

    /// Whether `signature` is a valid signature of `message` by this key (RFC 7515 section 5.2).
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            // This compares in constant time.
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            // For ES256 the signature has the fixed form of 64 bytes (RFC 7518 section 3.4) and is not
            // DER.
            Material::Public { prepared, .. } => prepared.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerificationKey {
    /// Prints the identity of the key but not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("algorithm", &self.algorithm())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
