//! Public keys in files: PEM around DER (RFC 7468, RFC 5280).
//!
//! Only a few structures occur, so they are parsed by hand and everything else is refused. A
//! general ASN.1 parser would accept keys that no algorithm here supports (RSASSA-PSS parameters,
//! other curves, compressed points).

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::key::KeyError;
use crate::public_key::PublicKey;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// rsaEncryption with NULL parameters (RFC 8017 appendix A.1).
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// id-ecPublicKey on secp256r1 (RFC 5480 section 2.1.1).
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// id-Ed25519 (RFC 8410 section 3).
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// Parses one `PUBLIC KEY` block (RFC 7468 section 13).
pub(crate) fn from_pem(pem: &[u8]) -> Result<PublicKey, KeyError> {
    let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyError::PrivateKey);
    }
    let mut blocks = text.split("-----BEGIN ").skip(1);
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        return Err(KeyError::NotPem);
    };
    let Some(body) = block.strip_prefix("PUBLIC KEY-----") else {
        return Err(KeyError::NotSpki);
    };
    let (body, _) = body.split_once("-----END PUBLIC KEY-----").ok_or(KeyError::NotPem)?;
    let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    from_der(&STANDARD.decode(base64).map_err(|_| KeyError::NotPem)?)
}

/// Parses a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
pub(crate) fn from_der(der: &[u8]) -> Result<PublicKey, KeyError> {
    let info = Der(der).only(SEQUENCE).ok_or(KeyError::NotSpki)?;
    let (algorithm, rest) = Der(info).next(SEQUENCE).ok_or(KeyError::NotSpki)?;
    // The first byte is the number of unused bits in the last byte, which is 0 for keys.
    let key = Der(rest).only(BIT_STRING).and_then(|bits| bits.strip_prefix(&[0]));
    let key = key.ok_or(KeyError::NotSpki)?;
    match algorithm {
        RSA => {
            let pair = Der(key).only(SEQUENCE).ok_or(KeyError::NotSpki)?;
            let (n, rest) = Der(pair).next(INTEGER).ok_or(KeyError::NotSpki)?;
            let e = Der(rest).only(INTEGER).ok_or(KeyError::NotSpki)?;
            PublicKey::rsa(unsigned(n)?, unsigned(e)?)
        }
        P256 => match key {
            [0x04, point @ ..] if point.len() == 64 => {
                let (x, y) = point.split_at(32);
                PublicKey::p256(x, y)
            }
            _ => Err(KeyError::Malformed),
        },
        ED25519 => PublicKey::ed25519(key),
        _ => Err(KeyError::UnsupportedType),
    }
}

/// The bytes of a positive DER integer (X.690 section 8.3), without the leading zero of its sign.
fn unsigned(integer: &[u8]) -> Result<&[u8], KeyError> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Ok(rest),
        [first, ..] if (1..0x80).contains(first) => Ok(integer),
        _ => Err(KeyError::Malformed),
    }
}

/// The unread part of DER data (X.690 section 10): definite lengths in their shortest form.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element if it has this tag, and the data after it.
    fn next(self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (length, rest) = match self.0 {
            [t, short, rest @ ..] if *t == tag && *short < 0x80 => (usize::from(*short), rest),
            [t, 0x81, a, rest @ ..] if *t == tag && *a >= 0x80 => (usize::from(*a), rest),
            [t, 0x82, a, b, rest @ ..] if *t == tag && *a > 0 => {
                (usize::from(u16::from_be_bytes([*a, *b])), rest)
            }
            _ => return None,
        };
        rest.split_at_checked(length)
    }

    /// The content of the element if it has this tag and nothing follows it.
    fn only(self, tag: u8) -> Option<&'a [u8]> {
        self.next(tag).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
    }
}
