//! Keys, and tokens of any shape that are signed with them.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RsaEncoding,
};
use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use token_verifier::{KeySet, VerificationKey};

pub(crate) const NOW: i64 = 1_750_000_000;
pub(crate) const SUB: &str = "01976f3a-8d2c-7b4e-9f10-2a3b4c5d6e7f";
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The genuine keys of the issuer.
pub(crate) static ISSUER: LazyLock<Keys> = LazyLock::new(Keys::generate);
/// Keys that no verifier trusts.
pub(crate) static STRANGER: LazyLock<Keys> = LazyLock::new(Keys::generate);

pub(crate) struct Keys {
    pub(crate) rsa: RsaKeyPair,
    pub(crate) p256: EcdsaKeyPair,
    pub(crate) ed25519: Ed25519KeyPair,
}

impl Keys {
    fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The keys in three PKCS#8 files.
    pub(crate) fn from_pems([rsa, p256, ed25519]: [&str; 3]) -> Self {
        let der = |pem: &str| {
            let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
            STANDARD.decode(lines).unwrap()
        };
        Self {
            rsa: RsaKeyPair::from_pkcs8(&der(rsa)).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der(p256)).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(&der(ed25519)).unwrap(),
        }
    }

    pub(crate) fn rsa_der(&self) -> Vec<u8> {
        AsDer::as_der(self.rsa.public_key()).unwrap().as_ref().to_vec()
    }

    pub(crate) fn p256_der(&self) -> Vec<u8> {
        AsDer::as_der(self.p256.public_key()).unwrap().as_ref().to_vec()
    }

    pub(crate) fn ed25519_der(&self) -> Vec<u8> {
        AsDer::as_der(self.ed25519.public_key()).unwrap().as_ref().to_vec()
    }

    pub(crate) fn public(&self) -> [VerificationKey; 3] {
        [self.rsa_der(), self.p256_der(), self.ed25519_der()].map(|der| {
            VerificationKey::from_public_pem(pem("PUBLIC KEY", &der).as_bytes()).unwrap()
        })
    }

    pub(crate) fn jwks(&self) -> serde_json::Value {
        KeySet::new(self.public().to_vec()).to_jwks()
    }

    pub(crate) fn kid(&self, algorithm: &str) -> String {
        let key = self.public().into_iter().find(|key| key.algorithm().as_str() == algorithm);
        key.unwrap().kid().unwrap().to_owned()
    }

    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        match algorithm {
            "RS256" => self.sign_rsa(&RSA_PKCS1_SHA256, message),
            "ES256" => self.p256.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            "HS256" => hs256(SECRET, message),
            _ => panic!("no such algorithm: {algorithm}"),
        }
    }

    pub(crate) fn sign_rsa(&self, scheme: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(scheme, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// The form of X.509, which JWS does not use.
    pub(crate) fn sign_p256_der(&self, message: &[u8]) -> Vec<u8> {
        let pkcs8 = self.p256.to_pkcs8v1().unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// A token that is all right.
    pub(crate) fn token(&self, algorithm: &str) -> String {
        self.token_of(algorithm, &header(algorithm, &self.kid(algorithm)), &claims(""))
    }

    /// A correctly signed token with these texts.
    pub(crate) fn token_of(&self, algorithm: &str, header: &str, claims: &str) -> String {
        token(header, claims.as_bytes(), |message| self.sign(algorithm, message))
    }
}

pub(crate) fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|l| str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn header(algorithm: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{kid}"}}"#)
}

/// Good claims, with `more` members at the end (each preceded by a comma).
pub(crate) fn claims(more: &str) -> String {
    let (iat, exp) = (NOW - 10, NOW + 3590);
    format!(r#"{{"sub":"{SUB}","email":"ada@example.com","iat":{iat},"exp":{exp}{more}}}"#)
}

pub(crate) fn token(
    header: &str,
    claims: impl AsRef<[u8]>,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// The three public keys of the issuer, as a JWKS names them.
pub(crate) fn from_jwks() -> KeySet {
    KeySet::from_jwks(ISSUER.jwks().to_string().as_bytes()).unwrap()
}

/// One key of the issuer, as an operator configures it by hand.
pub(crate) fn from_pem(algorithm: &str) -> KeySet {
    let key = ISSUER.public().into_iter().find(|key| key.algorithm().as_str() == algorithm);
    KeySet::new(vec![key.unwrap()])
}

pub(crate) fn from_secret() -> KeySet {
    KeySet::new(vec![VerificationKey::from_secret(SECRET).unwrap()])
}
