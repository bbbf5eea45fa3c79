//! Argon2id in memory that a thread keeps from one hash to the next: for new memory the system has
//! to find and clear thousands of pages, which takes nearly as long as the hash itself.

use std::cell::RefCell;

use argon2::{
    Algorithm, Argon2, Block, CustomizedPasswordHasher, Params, Version,
    password_hash::{
        Error, Result,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};

thread_local! {
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// The least memory to ask for, in blocks. What is larger than 32 MiB goes back to the system as soon
/// as it is freed; of what is smaller, glibc's malloc may keep a multiple for good. The part that no
/// hash uses costs nothing but addresses.
const LEAST_BLOCKS: usize = 33 * 1024 * 1024 / Block::SIZE;

/// Argon2 as [`Argon2`] computes it, in the memory of the thread.
pub(super) struct Argon2id;

impl CustomizedPasswordHasher<PasswordHash> for Argon2id {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash> {
        let algorithm = algorithm.map_or(Ok(Algorithm::Argon2id), Algorithm::try_from)?;
        let version = version.map_or(Ok(Version::V0x13), Version::try_from)?;
        let salt = Salt::new(salt)?;
        let text = ParamsString::try_from(&params)?;
        let mut buffer = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let output = buffer.get_mut(..length).ok_or(Error::OutputSize)?;
        let argon2 = Argon2::new(algorithm, version, params);
        let blocks = argon2.params().block_count();
        MEMORY.with_borrow_mut(|memory| {
            reserve_in(memory, blocks)?;
            if memory.len() < blocks {
                memory.resize(blocks, Block::new());
            }
            Ok::<_, Error>(argon2.hash_password_into_with_memory(password, &salt, output, memory)?)
        })?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: text,
            salt: Some(salt),
            hash: Some(Output::new(output)?),
        })
    }
}

fn reserve_in(memory: &mut Vec<Block>, blocks: usize) -> Result<()> {
    if memory.capacity() < blocks {
        // Freed first: there is nothing in it to copy.
        *memory = Vec::new();
        let blocks = blocks.max(LEAST_BLOCKS);
        memory.try_reserve_exact(blocks).map_err(|_| Error::OutOfMemory)?;
    }
    Ok(())
}

/// Prepares for hashes that take up to so many bytes each, whatever their order: the memory then
/// grows in its place, so that the order does not show in the time. Where there is no such memory,
/// the hash that needs it fails.
pub(super) fn reserve(bytes: u64) {
    let blocks = bytes.div_ceil(Block::SIZE as u64);
    if let Ok(blocks) = usize::try_from(blocks) {
        let _ = MEMORY.with_borrow_mut(|memory| reserve_in(memory, blocks));
    }
}

/// Overwrites what the last hash left in the memory of this thread. Where few passes were asked for,
/// passwords can be tried against it faster than against the hash.
pub(crate) fn wipe() {
    MEMORY.with_borrow_mut(|memory| memory.fill(Block::new()));
}

/// Gives the memory of this thread back.
pub(crate) fn release() {
    MEMORY.take();
}

#[cfg(test)]
pub(crate) fn look<T>(look: impl FnOnce(&[Block]) -> T) -> T {
    MEMORY.with_borrow(|memory| look(memory))
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, KeyId, ParamsBuilder, PasswordVerifier as _};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    proptest! {
        /// One after the other in the same memory, which is never clean nor of the right size.
        #[test]
        fn every_hash_and_answer_is_that_of_the_plain_crate(
            password in vec(any::<u8>(), 0..100),
            salt in vec(any::<u8>(), 6..=64),
            (lanes, more_memory, passes) in (1..=4_u32, 0..200_u32, 1..=3_u32),
            length in 4..=64_usize,
            version in select(vec![None, Some(0x10), Some(0x13), Some(0x12)]),
            algorithm in select(vec!["argon2id", "argon2i", "argon2d", "argon2x"]),
            (keyid, data) in (vec(any::<u8>(), 0..=8), vec(any::<u8>(), 0..=32)),
        ) {
            let plain = Argon2::default();
            let params = ParamsBuilder::new()
                .m_cost(8 * lanes + more_memory)
                .t_cost(passes)
                .p_cost(lanes)
                .output_len(length)
                .keyid(KeyId::new(&keyid).unwrap())
                .data(AssociatedData::new(&data).unwrap())
                .build()
                .unwrap();
            let hash = |hasher: &dyn CustomizedPasswordHasher<PasswordHash, Params = Params>| {
                let params = params.clone();
                hasher.hash_password_customized(&password, &salt, Some(algorithm), version, params)
            };
            let made = hash(&plain);
            prop_assert_eq!(&hash(&Argon2id), &made);
            if let Ok(mut hash) = made {
                hash.version = version;
                let mut other = hash.clone();
                other.version = Some(0x12);
                let mut empty = hash.clone();
                empty.hash = None;
                prop_assert_eq!(Argon2id.verify_password(&password, &hash), Ok(()));
                for hash in [hash, other, empty] {
                    let Ok(hash) = PasswordHash::new(&hash.to_string()) else { continue };
                    for password in [&*password, b"other"] {
                        prop_assert_eq!(
                            Argon2id.verify_password(password, &hash),
                            plain.verify_password(password, &hash)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn memory_grows_in_its_place_where_it_was_reserved() {
        let hash = |kib| {
            let params = Params::new(kib, 1, 1, None).unwrap();
            Argon2id.hash_password_customized(b"password", &[0; 16], None, None, params).unwrap();
            look(<[Block]>::as_ptr)
        };
        release();
        reserve(64 * 1024 * 1024);
        let place = hash(64);
        assert_eq!(look(<[Block]>::len), 64);
        assert_eq!(hash(64 * 1024), place);
        assert_eq!(hash(128), place);
        assert_eq!(look(<[Block]>::len), 64 * 1024);
        release();
        assert_eq!(look(<[Block]>::len), 0);
    }
}
