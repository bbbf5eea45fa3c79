//! SHA-crypt: the schemes `$5$` and `$6$` of crypt(3).

use sha_crypt::{Params, PasswordVerifier as _, ShaCrypt};

use super::scheme::{Digest, Scheme};

/// The number of rounds if the text does not specify it.
const DEFAULT_ROUNDS: u32 = 5_000;
const MOST_SALT: usize = 16;

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    digest: Digest,
    rounds: u32,
    text: String,
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
        let (salt, hash) = rest.split_once('$')?;
        let length = if digest == Digest::Sha256 { 43 } else { 86 };
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
        let sound = (1..=MOST_SALT).contains(&salt.len())
            && salt.bytes().all(in_alphabet)
            && hash.len() == length
            && hash.bytes().all(in_alphabet);
        sound.then(|| Self { digest, rounds, text: text.to_owned() })
    }

    pub(super) const fn scheme(&self) -> Scheme {
        Scheme::ShaCrypt { digest: self.digest, rounds: self.rounds }
    }

    pub(super) fn verify(&self, password: &str) -> bool {
        #[cfg(test)]
        super::computed::note(self.scheme());
        ShaCrypt::default().verify_password(password.as_bytes(), self.text.as_str()).is_ok()
    }
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
