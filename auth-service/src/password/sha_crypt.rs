//! SHA-crypt: the schemes `$5$` and `$6$` of crypt(3).

use sha_crypt::Params;
use subtle::ConstantTimeEq as _;

use super::{
    encoding::{crypt_base64, crypt_salt},
    scheme::{Digest, Scheme},
};

/// The number of rounds if the text does not specify it.
const DEFAULT_ROUNDS: u32 = 5_000;
const MOST_SALT: usize = 16;

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    digest: Digest,
    rounds: u32,
    salt: Vec<u8>,
    /// The digest, in the order in which its bytes are written.
    output: Vec<u8>,
}

impl Stored {
    /// Parses `$5$` and `$6$`, with or without `rounds=`. `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (digest, rest) = match (text.strip_prefix("$5$"), text.strip_prefix("$6$")) {
            (Some(rest), _) => (Digest::Sha256, rest),
            (_, Some(rest)) => (Digest::Sha512, rest),
            _ => return None,
        };
        let (rounds, rest) = match rest.strip_prefix("rounds=") {
            Some(rest) => {
                let (rounds, rest) = rest.split_once('$')?;
                (rounds.parse().ok()?, rest)
            }
            None => (DEFAULT_ROUNDS, rest),
        };
        let (salt, output) = rest.split_once('$')?;
        let salt = crypt_salt(salt).filter(|salt| salt.len() <= MOST_SALT)?;
        let output = crypt_base64(output)?;
        let length = if digest == Digest::Sha256 { 32 } else { 64 };
        (output.len() == length).then_some(Self { digest, rounds, salt, output })
    }

    pub(super) const fn scheme(&self) -> Scheme {
        Scheme::ShaCrypt { digest: self.digest, rounds: self.rounds }
    }

    pub(super) fn verify(&self, password: &str) -> bool {
        #[cfg(test)]
        super::computed::note(self.scheme());
        let Ok(rounds) = Params::new(self.rounds) else {
            return false;
        };
        // The crate's own verification refuses salts that crypt(3) accepts: empty ones, and any character
        // outside of its base64.
        let (password, salt) = (password.as_bytes(), self.salt.as_slice());
        let output = match self.digest {
            Digest::Sha512 => written(&sha_crypt::sha512_crypt(password, salt, rounds)),
            Digest::Sha1 | Digest::Sha256 => {
                written(&sha_crypt::sha256_crypt(password, salt, rounds))
            }
        };
        output.ct_eq(&self.output).into()
    }
}

/// The bytes of a digest in the order in which crypt(3) writes them: in groups of one byte from each third,
/// which begin with another third each time, and backwards; at last the bytes that are left over.
fn written(digest: &[u8]) -> Vec<u8> {
    let third = digest.len() / 3;
    let forwards = digest.len() == 64;
    let mut bytes = Vec::with_capacity(digest.len());
    for at in 0..third {
        let mut group = [at, at + third, at + 2 * third];
        match forwards {
            true => group.rotate_left(at % 3),
            false => group.rotate_right(at % 3),
        }
        bytes.extend(group.iter().rev().map(|at| digest[*at]));
    }
    bytes.extend(&digest[3 * third..]);
    bytes
}

/// Does the work of this many rounds, 1,000 at least, and discards the result.
pub(super) fn spend(digest: Digest, rounds: u32, salt: &[u8], password: &str) {
    let rounds = rounds.max(Params::ROUNDS_MIN);
    #[cfg(test)]
    super::computed::note(Scheme::ShaCrypt { digest, rounds });
    let Ok(rounds) = Params::new(rounds) else {
        return;
    };
    match digest {
        Digest::Sha512 => {
            std::hint::black_box(sha_crypt::sha512_crypt(password.as_bytes(), salt, rounds));
        }
        Digest::Sha1 | Digest::Sha256 => {
            std::hint::black_box(sha_crypt::sha256_crypt(password.as_bytes(), salt, rounds));
        }
    }
}
