//! PBKDF2 (RFC 8018, section 5.2) in the text forms of PHC, passlib, Django, and ASP.NET Core
//! Identity.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use subtle::ConstantTimeEq as _;

use super::{
    encoding::{base64, digest, is_digest, parameter, parts, salt, text_salt},
    scheme::{Digest, Scheme},
};

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    digest: Digest,
    iterations: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Stored {
    /// Parses `$pbkdf2-sha256$i=1000,l=32$…` of PHC, `$pbkdf2-sha256$1000$…` of passlib,
    /// `pbkdf2_sha256$1000$…` of Django, and the base64 blob of ASP.NET Core Identity, version 3.
    /// `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("$pbkdf2") {
            let [name, parameters, salt_text, output] = parts(rest)?;
            let iterations = match parameter(parameters, "i") {
                Some(iterations) => iterations,
                None => parameters.parse().ok()?,
            };
            let stored = Self {
                digest: match name {
                    "" | "-sha1" => Digest::Sha1,
                    "-sha256" => Digest::Sha256,
                    "-sha512" => Digest::Sha512,
                    _ => return None,
                },
                iterations,
                salt: salt(salt_text)?,
                output: digest(output)?,
            };
            let length = parameter(parameters, "l");
            return length
                .is_none_or(|length| length as usize == stored.output.len())
                .then_some(stored);
        }
        if let Some(rest) = text.strip_prefix("pbkdf2_") {
            let [name, iterations, salt_text, output] = parts(rest)?;
            return Some(Self {
                digest: match name {
                    "sha1" => Digest::Sha1,
                    "sha256" => Digest::Sha256,
                    _ => return None,
                },
                iterations: iterations.parse().ok()?,
                salt: text_salt(salt_text)?,
                output: digest(output)?,
            });
        }
        Self::identity(text)
    }

    /// Parses the blob of ASP.NET Core Identity, version 3: a byte 1; then the hash function, the
    /// iterations and the length of the salt as big-endian 32-bit numbers; then the salt and the
    /// output.
    fn identity(text: &str) -> Option<Self> {
        // The encoded version and the first three bytes of the number of the hash function.
        if !text.starts_with("AQAA") {
            return None;
        }
        let blob = base64(text)?;
        let (head, rest) = blob.split_at_checked(13)?;
        let number = |at: usize| {
            head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
        };
        let (salt, output) = rest.split_at_checked(usize::try_from(number(9)?).ok()?)?;
        is_digest(output).then_some(Self {
            digest: match number(1)? {
                0 => Digest::Sha1,
                1 => Digest::Sha256,
                2 => Digest::Sha512,
                _ => return None,
            },
            iterations: number(5)?,
            salt: salt.to_vec(),
            output: output.to_vec(),
        })
    }

    pub(super) fn scheme(&self) -> Scheme {
        scheme(self.digest, self.iterations, self.output.len())
    }

    pub(super) fn verify(&self, password: &str) -> bool {
        let mut output = vec![0; self.output.len()];
        derive(self.digest, self.iterations, &self.salt, password, &mut output);
        output.ct_eq(&self.output).into()
    }
}

fn scheme(digest: Digest, iterations: u32, length: usize) -> Scheme {
    // Each block of output needs all iterations again.
    let blocks = u32::try_from(length.div_ceil(digest.length())).unwrap_or(u32::MAX);
    Scheme::Pbkdf2 { digest, rounds: iterations.saturating_mul(blocks) }
}

/// Does the work of this many iterations and discards the result.
pub(super) fn spend(digest: Digest, iterations: u32, salt: &[u8], password: &str) {
    let mut output = vec![0; digest.length()];
    derive(digest, iterations, salt, password, &mut output);
    std::hint::black_box(output);
}

fn derive(digest: Digest, iterations: u32, salt: &[u8], password: &str, output: &mut [u8]) {
    let algorithm = match digest {
        Digest::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Digest::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Digest::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    #[cfg(test)]
    super::computed::note(scheme(digest, iterations, output.len()));
    if let Some(iterations) = NonZeroU32::new(iterations) {
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), output);
    }
}
