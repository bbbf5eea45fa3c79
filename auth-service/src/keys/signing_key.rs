//! Private keys and the signing of tokens.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::Serialize;
use token_verifier::{Algorithm, KeyError, VerificationKey};
use zeroize::Zeroizing;

/// A key that signs tokens with one algorithm.
pub struct SigningKey {
    pair: Pair,
    verification: VerificationKey,
    /// The private key in PKCS #8; absent for a shared secret.
    pkcs8: Option<Zeroizing<Vec<u8>>>,
    /// The header of every token that it signs, in base64url, including the dot after it.
    header: String,
}

/// A parsed key. It is parsed only once, because parsing an RSA key takes as long as signing with it.
enum Pair {
    Hmac(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a key cannot be used. The text never contains a part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not a PEM file with a private key.
    #[error("is not a PEM private key (PKCS #8, PKCS #1 or SEC 1)")]
    NotAKey,
    /// The type or size of the key is not supported.
    #[error("is not an RSA key of 2048 to 8192 bits, a P-256 key or an Ed25519 key")]
    Unsupported,
    /// The public key was refused.
    #[error("{0}")]
    Public(#[from] KeyError),
}

/// A failure of the cryptographic library: a valid key cannot sign, or no key can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed")]
pub struct CryptoError;

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

/// The header of a token (RFC 7515, section 4.1; RFC 9068, section 2.1).
#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

impl SigningKey {
    /// A key for HS256 (RFC 7518, section 3.2).
    ///
    /// # Errors
    ///
    /// If the secret is shorter than 32 bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyFileError> {
        let pair = Pair::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Ok(Self::new(pair, VerificationKey::from_secret(secret)?, None))
    }

    /// Parses a private key in PEM. Its type determines the algorithm: RS256, ES256 or EdDSA.
    ///
    /// # Errors
    ///
    /// If it is not such a key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyFileError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyFileError::NotAKey)?;
        Self::from_der(der.secret_der())
    }

    /// Parses a private key in DER: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    ///
    /// If it is not such a key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyFileError> {
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            return Self::from_rsa(pair);
        }
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(p256, der) {
            return Self::from_p256(pair);
        }
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyFileError::Unsupported)?;
        Self::from_ed25519(pair)
    }

    /// Generates a key. For RSA this takes some tenths of a second.
    ///
    /// # Errors
    ///
    /// For HS256, and where the system has no random bytes.
    pub fn generate(algorithm: Algorithm) -> Result<Self, CryptoError> {
        let failed = |_| CryptoError;
        let key = match algorithm {
            Algorithm::Rs256 => {
                Self::from_rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?)
            }
            Algorithm::Es256 => Self::from_p256(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?,
            ),
            Algorithm::EdDsa => Self::from_ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            _ => return Err(CryptoError),
        };
        key.map_err(|_| CryptoError)
    }

    fn from_rsa(pair: RsaKeyPair) -> Result<Self, KeyFileError> {
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair);
        let pkcs8 = pkcs8.map_err(|_| KeyFileError::Unsupported)?.as_ref().to_vec();
        let public = public(pair.public_key())?;
        Ok(Self::new(Pair::Rsa(Box::new(pair)), public, Some(pkcs8)))
    }

    fn from_p256(pair: EcdsaKeyPair) -> Result<Self, KeyFileError> {
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| KeyFileError::Unsupported)?.as_ref().to_vec();
        let public = public(pair.public_key())?;
        Ok(Self::new(Pair::P256(pair), public, Some(pkcs8)))
    }

    fn from_ed25519(pair: Ed25519KeyPair) -> Result<Self, KeyFileError> {
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair);
        let pkcs8 = pkcs8.map_err(|_| KeyFileError::Unsupported)?.as_ref().to_vec();
        let public = public(pair.public_key())?;
        Ok(Self::new(Pair::Ed25519(pair), public, Some(pkcs8)))
    }

    fn new(pair: Pair, verification: VerificationKey, pkcs8: Option<Vec<u8>>) -> Self {
        let (alg, kid) = (verification.algorithm().as_str(), verification.kid());
        let header = serde_json::to_vec(&Header { typ: "at+jwt", alg, kid });
        // Serialising a few short strings cannot fail.
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header.unwrap_or_default()));
        Self { pair, verification, pkcs8: pkcs8.map(Zeroizing::new), header }
    }

    /// Signs claims in JSON and returns the token (RFC 7515, section 7.1). Its `typ` is `at+jwt`.
    ///
    /// # Errors
    ///
    /// If signing fails.
    pub fn sign(&self, claims: &[u8]) -> Result<String, CryptoError> {
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| CryptoError)?;
                signature
            }
            Pair::P256(pair) => {
                pair.sign(&random, message).map_err(|_| CryptoError)?.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }

    /// The `kid` of its tokens: the RFC 7638 thumbprint, or `None` for a shared secret.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.verification.kid()
    }

    /// The algorithm that it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.verification.algorithm()
    }

    /// The key's public half, or the shared secret.
    #[must_use]
    pub const fn verification_key(&self) -> &VerificationKey {
        &self.verification
    }

    /// The private key in PKCS #8; `None` for a shared secret.
    #[must_use]
    pub fn pkcs8(&self) -> Option<&[u8]> {
        self.pkcs8.as_ref().map(|key| key.as_slice())
    }
}

fn public(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<VerificationKey, KeyFileError> {
    let der = key.as_der().map_err(|_| KeyFileError::Unsupported)?;
    Ok(VerificationKey::from_public_der(der.as_ref())?)
}
