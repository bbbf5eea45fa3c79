//! A private key and what it signs with it.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm as JwtAlgorithm, EncodingKey};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use token_verifier::{Algorithm, KeyError, VerificationKey};
use zeroize::Zeroizing;

/// A key that signs tokens with one algorithm.
pub struct SigningKey {
    algorithm: JwtAlgorithm,
    encoding: EncodingKey,
    verification: VerificationKey,
    /// The private key in PKCS #8, absent for a shared secret.
    pkcs8: Option<Zeroizing<Vec<u8>>>,
}

/// Why a key cannot be used. Never holds a part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not a PEM file with a private key.
    #[error("is not a PEM private key (PKCS #8, PKCS #1 or SEC 1)")]
    NotAKey,
    /// A key of a type or size that we do not sign with.
    #[error("is not an RSA key of 2048 to 8192 bits, a P-256 key or an Ed25519 key")]
    Unsupported,
    /// The public half was refused.
    #[error("{0}")]
    Public(#[from] KeyError),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A key for HS256 (RFC 7518, section 3.2).
    ///
    /// # Errors
    ///
    /// Where the secret is under 32 bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyFileError> {
        Ok(Self {
            algorithm: JwtAlgorithm::HS256,
            encoding: EncodingKey::from_secret(secret),
            verification: VerificationKey::from_secret(secret)?,
            pkcs8: None,
        })
    }

    /// Reads a private key in PEM. Its type decides the algorithm: RS256, ES256 or EdDSA.
    ///
    /// # Errors
    ///
    /// Where it is no such key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyFileError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyFileError::NotAKey)?;
        Self::from_der(der.secret_der())
    }

    /// Reads a private key in DER: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    ///
    /// Where it is no such key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyFileError> {
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            return Self::from_rsa(&pair);
        }
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(p256, der) {
            return Self::from_p256(&pair);
        }
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyFileError::Unsupported)?;
        Self::from_ed25519(&pair)
    }

    /// Makes a new key. RSA takes some tenths of a second.
    ///
    /// # Errors
    ///
    /// For HS256, and where the system has no random bytes.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyFileError> {
        let failed = |_| KeyFileError::Unsupported;
        match algorithm {
            Algorithm::Rs256 => {
                Self::from_rsa(&RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?)
            }
            Algorithm::Es256 => Self::from_p256(
                &EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?,
            ),
            Algorithm::EdDsa => Self::from_ed25519(&Ed25519KeyPair::generate().map_err(failed)?),
            _ => Err(KeyFileError::Unsupported),
        }
    }

    fn from_rsa(pair: &RsaKeyPair) -> Result<Self, KeyFileError> {
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map_err(|_| KeyFileError::Unsupported)?;
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| KeyFileError::Unsupported)?;
        Self::new(JwtAlgorithm::RS256, EncodingKey::from_rsa_pem, pkcs8.as_ref(), public.as_ref())
    }

    fn from_p256(pair: &EcdsaKeyPair) -> Result<Self, KeyFileError> {
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| KeyFileError::Unsupported)?;
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| KeyFileError::Unsupported)?;
        Self::new(JwtAlgorithm::ES256, EncodingKey::from_ec_pem, pkcs8.as_ref(), public.as_ref())
    }

    fn from_ed25519(pair: &Ed25519KeyPair) -> Result<Self, KeyFileError> {
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map_err(|_| KeyFileError::Unsupported)?;
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| KeyFileError::Unsupported)?;
        Self::new(JwtAlgorithm::EdDSA, EncodingKey::from_ed_pem, pkcs8.as_ref(), public.as_ref())
    }

    fn new(
        algorithm: JwtAlgorithm,
        encoding: impl Fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
        pkcs8: &[u8],
        public: &[u8],
    ) -> Result<Self, KeyFileError> {
        let pem = Zeroizing::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(pkcs8)
        ));
        Ok(Self {
            algorithm,
            encoding: encoding(pem.as_bytes()).map_err(|_| KeyFileError::Unsupported)?,
            verification: VerificationKey::from_public_der(public)?,
            pkcs8: Some(Zeroizing::new(pkcs8.to_vec())),
        })
    }

    /// The id that tokens carry: the RFC 7638 thumbprint, or nothing for a shared secret.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.verification.kid()
    }

    /// The algorithm for the header of a token.
    #[must_use]
    pub const fn jwt_algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    /// The key in the form that signs.
    #[must_use]
    pub const fn encoding_key(&self) -> &EncodingKey {
        &self.encoding
    }

    /// The key's public half, or the shared secret.
    #[must_use]
    pub const fn verification_key(&self) -> &VerificationKey {
        &self.verification
    }

    /// The private key in PKCS #8; nothing for a shared secret.
    #[must_use]
    pub fn pkcs8(&self) -> Option<&[u8]> {
        self.pkcs8.as_ref().map(|key| key.as_slice())
    }
}
