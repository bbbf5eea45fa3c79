//! Argon2i and Argon2id (RFC 9106) in the PHC string format.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use subtle::ConstantTimeEq as _;

use super::{HashError, Memory, encoding::is_digest, scheme::Scheme};

const LEAST_SALT: usize = 8;

/// A parsed hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stored {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Stored {
    /// Parses `$argon2id$v=19$m=…,t=…,p=…$…` and the same for Argon2i, also with Django's prefix
    /// `argon2`. `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text
            .strip_prefix("argon2$argon2")
            .map_or_else(|| text.to_owned(), |rest| format!("$argon2{rest}"));
        let algorithm = match text.split('$').nth(1)? {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            _ => return None,
        };
        let hash = PasswordHash::new(&text).ok()?;
        let (salt, output) = (hash.salt?, hash.hash?);
        let sound = salt.len() >= LEAST_SALT && is_digest(output.as_bytes());
        Some(Self {
            algorithm,
            // Texts from before version 19 have no version field.
            version: match hash.version {
                Some(version) => Version::try_from(version).ok()?,
                None => Version::V0x10,
            },
            params: Params::try_from(&hash).ok()?,
            salt: salt.to_vec(),
            output: output.as_bytes().to_vec(),
        })
        .filter(|_| sound)
    }

    pub(super) const fn scheme(&self) -> Scheme {
        let (memory_kib, iterations, parallelism) =
            (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        match self.algorithm {
            Algorithm::Argon2i => Scheme::Argon2i { memory_kib, iterations, parallelism },
            _ => Scheme::Argon2id { memory_kib, iterations, parallelism },
        }
    }

    /// Whether it has the version of new hashes.
    pub(super) const fn is_current(&self) -> bool {
        matches!(self.version, Version::V0x13)
    }

    /// Whether the password matches; `None` if there is not enough memory.
    pub(super) fn verify(&self, password: &str, memory: &Memory, reserve: u64) -> Option<bool> {
        let mut output = vec![0; self.output.len()];
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        compute(&argon2, password, &self.salt, &mut output, memory, reserve)?;
        #[cfg(test)]
        super::computed::note(self.scheme());
        Some(output.ct_eq(&self.output).into())
    }
}

/// Computes a new Argon2id hash in its text form.
pub(super) fn make(
    (memory_kib, iterations, parallelism): (u32, u32, u32),
    password: &str,
    salt: &[u8],
    memory: &Memory,
    reserve: u64,
) -> Result<String, HashError> {
    let params = Params::new(memory_kib, iterations, parallelism, None).map_err(|_| HashError)?;
    let text = ParamsString::try_from(&params).map_err(|_| HashError)?;
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    compute(&argon2, password, salt, &mut output, memory, reserve).ok_or(HashError)?;
    #[cfg(test)]
    super::computed::note(Scheme::Argon2id { memory_kib, iterations, parallelism });
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: text,
        salt: Some(Salt::new(salt).map_err(|_| HashError)?),
        hash: Some(Output::new(&output).map_err(|_| HashError)?),
    };
    Ok(hash.to_string())
}

/// Does the work of one hash and discards the result.
pub(super) fn spend(
    scheme: Scheme,
    password: &str,
    salt: &[u8],
    memory: &Memory,
    reserve: u64,
) -> Option<()> {
    let (algorithm, memory_kib, iterations, parallelism) = match scheme {
        Scheme::Argon2i { memory_kib, iterations, parallelism } => {
            (Algorithm::Argon2i, memory_kib, iterations, parallelism)
        }
        Scheme::Argon2id { memory_kib, iterations, parallelism } => {
            (Algorithm::Argon2id, memory_kib, iterations, parallelism)
        }
        _ => return None,
    };
    let params = Params::new(memory_kib, iterations, parallelism, None).ok()?;
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    let argon2 = Argon2::new(algorithm, Version::V0x13, params);
    compute(&argon2, password, salt, &mut output, memory, reserve)?;
    #[cfg(test)]
    super::computed::note(scheme);
    std::hint::black_box(output);
    Some(())
}

/// `None` if there is not enough memory or the parameters are not valid together.
fn compute(
    argon2: &Argon2<'_>,
    password: &str,
    salt: &[u8],
    output: &mut [u8],
    memory: &Memory,
    reserve: u64,
) -> Option<()> {
    let blocks = argon2.params().block_count();
    memory.with_blocks(blocks, reserve, |blocks: &mut [Block]| {
        argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, blocks).ok()
    })?
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, CustomizedPasswordHasher as _, KeyId, ParamsBuilder};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    proptest! {
        /// All hashes use the same memory one after the other, so it is neither zeroed nor of the
        /// right size.
        #[test]
        fn hashes_of_the_plain_crate_verify_in_used_memory(
            password in "\\PC{0,60}",
            salt in vec(any::<u8>(), 8..=48),
            (lanes, more_memory, passes) in (1..=4_u32, 0..200_u32, 1..=3_u32),
            length in 16..=64_usize,
            version in select(vec![0x10, 0x13]),
            algorithm in select(vec!["argon2id", "argon2i"]),
            (keyid, data) in (vec(any::<u8>(), 0..=8), vec(any::<u8>(), 0..=32)),
        ) {
            static MEMORY: std::sync::LazyLock<Memory> = std::sync::LazyLock::new(Memory::default);
            let params = ParamsBuilder::new()
                .m_cost(8 * lanes + more_memory)
                .t_cost(passes)
                .p_cost(lanes)
                .output_len(length)
                .keyid(KeyId::new(&keyid).unwrap())
                .data(AssociatedData::new(&data).unwrap())
                .build()
                .unwrap();
            let plain = Argon2::default();
            let mut hash = plain
                .hash_password_customized(
                    password.as_bytes(), &salt, Some(algorithm), Some(version), params,
                )
                .unwrap();
            if version == 0x10 {
                // The format from before there was a version field.
                hash.version = None;
            }
            let stored = Stored::parse(&hash.to_string()).unwrap();
            prop_assert_eq!(stored.verify(&password, &MEMORY, 0), Some(true));
            prop_assert_eq!(stored.verify("another one", &MEMORY, 1 << 20), Some(false));
        }
    }
}
