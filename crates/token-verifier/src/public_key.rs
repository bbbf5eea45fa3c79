//! The numbers of a public key, and their JSON form (RFC 7517, RFC 7518 section 6, RFC 8037).

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::key::{Algorithm, KeyError};

/// Members that only a private or symmetric JWK has (RFC 7518 sections 6.2.2, 6.3.2 and 6.4).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

#[derive(Clone)]
pub(crate) enum PublicKey {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256 { x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
}

impl PublicKey {
    /// Big-endian numbers without leading zeros.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let (Some((first, _)), Some(last)) = (n.split_first(), n.last()) else {
            return Err(KeyError::Malformed);
        };
        let bits = n.len() * 8 - first.leading_zeros() as usize;
        if *first == 0 || last % 2 == 0 {
            return Err(KeyError::Malformed);
        }
        if !(2048..=8192).contains(&bits) {
            return Err(KeyError::RsaSize { bits });
        }
        // With the exponent 1, every message would be its own signature. An even exponent has no
        // private key. An exponent above 32 bits only makes verification slow.
        let sound = match e {
            [] | [0, ..] => false,
            [only] => *only >= 3,
            _ => e.len() <= 4,
        };
        if !sound || e.last().is_none_or(|last| last % 2 == 0) {
            return Err(KeyError::Malformed);
        }
        Ok(Self::Rsa { n: n.to_vec(), e: e.to_vec() })
    }

    /// Two coordinates of 32 bytes. Whether the point is on the curve is checked by `prepare`.
    pub(crate) fn p256(x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        if x.len() != 32 || y.len() != 32 {
            return Err(KeyError::Malformed);
        }
        Ok(Self::P256 { x: x.to_vec(), y: y.to_vec() })
    }

    /// A compressed point of 32 bytes (RFC 8032 section 5.1.5).
    pub(crate) fn ed25519(x: &[u8]) -> Result<Self, KeyError> {
        if x.len() != 32 {
            return Err(KeyError::Malformed);
        }
        Ok(Self::Ed25519 { x: x.to_vec() })
    }

    /// Parses a JWK, and refuses one that is private or not meant for signatures.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
            return Err(KeyError::PrivateKey);
        }
        // RFC 7517 sections 4.2 and 4.3.
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return Err(KeyError::NotForSignatures);
        }
        if let Some(operations) = jwk.get("key_ops") {
            let operations = operations.as_array().ok_or(KeyError::Malformed)?;
            if !operations.iter().any(|operation| operation == "verify") {
                return Err(KeyError::NotForSignatures);
            }
        }
        let number = |name: &str| {
            let text = jwk.get(name).and_then(Value::as_str).ok_or(KeyError::Malformed)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed)
        };
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let key = match (text("kty").ok_or(KeyError::Malformed)?, text("crv")) {
            ("RSA", _) => Self::rsa(&number("n")?, &number("e")?)?,
            ("EC", Some("P-256")) => Self::p256(&number("x")?, &number("y")?)?,
            ("OKP", Some("Ed25519")) => Self::ed25519(&number("x")?)?,
            _ => return Err(KeyError::UnsupportedType),
        };
        let named = |alg: &Value| alg.as_str().and_then(Algorithm::from_name);
        match jwk.get("alg") {
            Some(alg) if named(alg) != Some(key.algorithm()) => Err(KeyError::AlgorithmMismatch),
            _ => Ok(key),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256 { .. } => Algorithm::Es256,
            Self::Ed25519 { .. } => Algorithm::EdDsa,
        }
    }

    /// Parses the key into the form that verifies signatures. This is done once per key and not
    /// once per token.
    pub(crate) fn prepare(&self) -> Result<ParsedPublicKey, KeyError> {
        let prepared = match self {
            Self::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            }
            Self::P256 { x, y } => {
                let point = [&[0x04], x.as_slice(), y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            }
            Self::Ed25519 { x } => ParsedPublicKey::new(&ED25519, x),
        };
        prepared.map_err(|_| KeyError::Malformed)
    }

    /// The members that the thumbprint is computed from, in order (RFC 7638 section 3.2, RFC 8037
    /// section 2).
    pub(crate) fn required_members(&self) -> Value {
        let b64 = |bytes: &Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa { n, e } => json!({"e": b64(e), "kty": "RSA", "n": b64(n)}),
            Self::P256 { x, y } => {
                json!({"crv": "P-256", "kty": "EC", "x": b64(x), "y": b64(y)})
            }
            Self::Ed25519 { x } => json!({"crv": "Ed25519", "kty": "OKP", "x": b64(x)}),
        }
    }

    /// The SHA-256 thumbprint (RFC 7638) in base64url.
    pub(crate) fn thumbprint(&self) -> String {
        // The text has no white space and its members are in lexicographic order, whether or not
        // the map sorts them.
        let text = self.required_members().to_string();
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::PublicKey;
    use crate::key::KeyError;

    #[test]
    fn the_thumbprints_are_those_of_the_rfcs() {
        let rsa = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n": concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc",
            "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ",
            "R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bF",
            "TWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")});
        let key = PublicKey::from_jwk(rsa.as_object().unwrap()).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"); // RFC 7638 3.1

        let okp = json!({"kty": "OKP", "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let key = PublicKey::from_jwk(okp.as_object().unwrap()).unwrap();
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"); // RFC 8037 A.3
    }

    #[test]
    fn unsound_rsa_numbers_are_refused() {
        let n = [0xff; 256];
        for e in [&[][..], &[0], &[1], &[2], &[0, 3], &[1, 0], &[1, 0, 0, 0, 1]] {
            assert!(matches!(PublicKey::rsa(&n, e), Err(KeyError::Malformed)), "{e:?}");
        }
        assert!(PublicKey::rsa(&n, &[3]).is_ok());
        assert!(PublicKey::rsa(&n, &[1, 0, 1]).is_ok());
        let mut small = n;
        small[0] = 0x7f;
        let refused = PublicKey::rsa(&small, &[1, 0, 1]);
        assert!(matches!(refused, Err(KeyError::RsaSize { bits: 2047 })));
        assert!(PublicKey::rsa(&[0xff; 1025], &[1, 0, 1]).is_err());
    }
}
