//! Signatures of Standard Webhooks, version 1: HMAC-SHA-256, symmetric.

use std::{fmt, str::FromStr};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The prefix of a secret.
const PREFIX: &str = "whsec_";
/// The permitted length of a secret, in bytes.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that signs webhooks. The receiver has the same key.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey([redacted])")
    }
}

/// Parses `whsec_` and base64. Errors never quote the text.
impl FromStr for SigningKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let encoded = text.strip_prefix(PREFIX).ok_or("does not begin with whsec_")?;
        let bytes =
            STANDARD.decode(encoded).map_err(|_| "is not whsec_ and base64, with its padding")?;
        if !BYTES.contains(&bytes.len()) {
            return Err(format!(
                "is whsec_ and {} bytes in base64, but must be {} to {} bytes",
                bytes.len(),
                BYTES.start(),
                BYTES.end()
            ));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

/// The value of `webhook-signature`: one signature per key, separated by spaces. A receiver accepts a
/// webhook if any signature is valid, so keys can be rotated.
#[must_use]
pub fn signature(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let sign = |key: &SigningKey| {
        let mut context = hmac::Context::with_key(&key.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example from the test suites of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let key: SigningKey = SECRET.parse().unwrap();
        assert_eq!(signature(&[key], ID, 1_614_265_330, BODY), SIGNATURE);
    }

    #[test]
    fn each_key_signs() {
        let other = format!("whsec_{}", STANDARD.encode([7; 64]));
        let keys = [other.parse().unwrap(), SECRET.parse().unwrap()];
        let both = signature(&keys, ID, 1_614_265_330, BODY);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(second, SIGNATURE);
        assert!(first.starts_with("v1,") && first != second);
    }

    #[test]
    fn a_secret_is_whsec_and_24_to_64_bytes() {
        for bytes in [24, 25, 64] {
            let text = format!("whsec_{}", STANDARD.encode(vec![1; bytes]));
            let key: SigningKey = text.parse().unwrap();
            assert_eq!(format!("{key:?}"), "SigningKey([redacted])");
        }
        let encoded = STANDARD.encode([0xab; 25]);
        for text in [
            "",
            "whsec_",
            &encoded,
            &format!("whpk_{encoded}"),
            &format!("WHSEC_{encoded}"),
            &format!("whsec_{}", encoded.trim_end_matches('=')),
            &format!("whsec_{encoded}!"),
            &format!("whsec_{}", STANDARD.encode([1; 23])),
            &format!("whsec_{}", STANDARD.encode([1; 65])),
        ] {
            let fault = text.parse::<SigningKey>().map(|_| ()).unwrap_err();
            assert!(!fault.contains(&encoded[..8]), "{fault}");
        }
    }
}
