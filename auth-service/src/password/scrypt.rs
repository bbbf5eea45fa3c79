//! scrypt (RFC 7914) in the text forms of PHC and passlib (which are the same), crypt(3), Django, and
//! Firebase.

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    encoding::{
        base64, crypt_base64, crypt_salt, digest, named, parameter, parts, salt, text_salt,
    },
    scheme::Scheme,
};

const FIREBASE_PREFIX: &str = "$fbscrypt$";
/// The longest accepted signer key of a Firebase project, in bytes. The usual length is 64.
const MOST_SIGNER_KEY: usize = 256;

/// The hash parameters of a Firebase project, which its console shows.
#[derive(Clone, PartialEq, Eq)]
pub struct FirebaseParameters {
    /// `base64_signer_key`, decoded.
    pub signer_key: Vec<u8>,
    /// `base64_salt_separator`, decoded.
    pub salt_separator: Vec<u8>,
    /// `rounds`, which is scrypt's r.
    pub rounds: u32,
    /// `mem_cost`, which is the exponent of scrypt's N.
    pub memory_cost: u32,
}

/// Omits the signer key.
impl std::fmt::Debug for FirebaseParameters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FirebaseParameters([redacted])")
    }
}

impl FirebaseParameters {
    /// Completes a hash in the form `$fbscrypt$salt$hash`, both in base64, with the parameters of
    /// the project. `None` if the text has another form.
    #[must_use]
    pub fn complete(&self, text: &str) -> Option<String> {
        let [salt, hash] = parts(text.strip_prefix(FIREBASE_PREFIX)?)?;
        Some(format!(
            "{FIREBASE_PREFIX}v=1,n={},r={},p=1,ss={},sk={}${salt}${hash}",
            self.memory_cost,
            self.rounds,
            STANDARD.encode(&self.salt_separator),
            STANDARD.encode(&self.signer_key)
        ))
    }
}

/// What the output of scrypt is compared with.
#[derive(Clone, PartialEq, Eq)]
enum Comparison {
    /// The output itself.
    Output(Vec<u8>),
    /// The output is an AES-256-CTR key (with a counter from 0) that encrypts the signer key of the
    /// project to the stored bytes.
    Firebase { signer_key: Vec<u8>, encrypted: Vec<u8> },
}

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    log_n: u32,
    r: u32,
    p: u32,
    salt: Vec<u8>,
    comparison: Comparison,
}

impl Stored {
    /// Parses `$scrypt$ln=14,r=8,p=1$…`, `$7$` of crypt(3), Django's `scrypt$16384$salt$8$1$…`, and, for Firebase,
    /// `$fbscrypt$v=1,n=14,r=8,p=1,ss=…,sk=…$salt$hash` with the parameters of the project. `None`
    /// for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("$scrypt$") {
            let [parameters, salt_text, output] = parts(rest)?;
            return Some(Self {
                log_n: parameter(parameters, "ln")?,
                r: parameter(parameters, "r")?,
                p: parameter(parameters, "p")?,
                salt: salt(salt_text)?,
                comparison: Comparison::Output(digest(output)?),
            });
        }
        if let Some(rest) = text.strip_prefix("scrypt$") {
            let [n, salt_text, r, p, output] = parts(rest)?;
            let n: u64 = n.parse().ok()?;
            return n.is_power_of_two().then_some(Self {
                log_n: n.trailing_zeros(),
                r: r.parse().ok()?,
                p: p.parse().ok()?,
                salt: text_salt(salt_text)?,
                comparison: Comparison::Output(digest(output)?),
            });
        }
        if let Some(rest) = text.strip_prefix("$7$") {
            return Self::parse_crypt(rest);
        }
        let [parameters, salt_text, hash] = parts(text.strip_prefix(FIREBASE_PREFIX)?)?;
        let signer_key = base64(named(parameters, "sk")?)?;
        let encrypted = base64(&url_safe(hash))?;
        let salt = [salt(&url_safe(salt_text))?, salt(named(parameters, "ss")?)?].concat();
        let sound = parameter(parameters, "v") == Some(1)
            && (16..=MOST_SIGNER_KEY).contains(&signer_key.len())
            && encrypted.len() == signer_key.len();
        sound.then_some(Self {
            log_n: parameter(parameters, "n")?,
            r: parameter(parameters, "r")?,
            p: parameter(parameters, "p")?,
            salt,
            comparison: Comparison::Firebase { signer_key, encrypted },
        })
    }

    /// Parses what follows `$7$`: a character for the exponent of N, five for r and five for p, the salt, and
    /// the output.
    fn parse_crypt(text: &str) -> Option<Self> {
        let [start, output] = parts(text)?;
        let (parameters, salt_text) = start.split_at_checked(11)?;
        // Three characters more make a multiple of four, which decodes to whole bytes.
        let number = |digits: &str| {
            let bytes = crypt_base64(&format!("{digits:.<8}"))?;
            u32::try_from(u64::from_le_bytes([&bytes[..], &[0, 0]].concat().try_into().ok()?)).ok()
        };
        Some(Self {
            log_n: number(parameters.get(..1)?)?,
            r: number(parameters.get(1..6)?)?,
            p: number(parameters.get(6..)?)?,
            salt: crypt_salt(salt_text)?,
            comparison: Comparison::Output(crypt_base64(output).filter(|bytes| bytes.len() == 32)?),
        })
    }

    pub(super) const fn scheme(&self) -> Scheme {
        Scheme::Scrypt { log_n: self.log_n, r: self.r, p: self.p }
    }

    /// Whether the password matches. The caller must hold the memory.
    pub(super) fn verify(&self, password: &str) -> bool {
        let derive =
            |output: &mut [u8]| derive((self.log_n, self.r, self.p), &self.salt, password, output);
        match &self.comparison {
            Comparison::Output(stored) => {
                let mut output = vec![0; stored.len()];
                derive(&mut output) && output.ct_eq(stored).into()
            }
            Comparison::Firebase { signer_key, encrypted } => {
                let mut key = Zeroizing::new([0; 32]);
                derive(key.as_mut_slice())
                    && aes_256_ctr(&key, signer_key)
                        .is_some_and(|made| made.ct_eq(encrypted).into())
            }
        }
    }
}

/// Does the work of one hash and discards the result. The caller must hold the memory.
pub(super) fn spend(parameters: (u32, u32, u32), salt: &[u8], password: &str) {
    let mut output = [0; 32];
    derive(parameters, salt, password, &mut output);
    std::hint::black_box(output);
}

fn derive((log_n, r, p): (u32, u32, u32), salt: &[u8], password: &str, output: &mut [u8]) -> bool {
    let Ok(Ok(parameters)) = u8::try_from(log_n).map(|n| ::scrypt::Params::new(n, r, p)) else {
        return false;
    };
    #[cfg(test)]
    super::computed::note(Scheme::Scrypt { log_n, r, p });
    ::scrypt::scrypt(password.as_bytes(), salt, &parameters, output).is_ok()
}

/// In counter mode, encryption and decryption are the same operation.
fn aes_256_ctr(key: &[u8; 32], text: &[u8]) -> Option<Vec<u8>> {
    let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    let mut text = text.to_vec();
    key.decrypt(&mut text, DecryptionContext::Iv128([0; 16].into())).ok()?;
    Some(text)
}

/// Some versions of Firebase export hashes and salts in the URL-safe alphabet.
fn url_safe(text: &str) -> String {
    text.replace('-', "+").replace('_', "/")
}
