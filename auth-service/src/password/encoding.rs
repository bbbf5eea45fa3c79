//! Parsing that the text forms of several password hashes share.

use base64::{
    Engine as _,
    alphabet::{BCRYPT, STANDARD},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use base64ct::{Base64ShaCrypt, Encoding as _};

/// The shortest digest that is accepted, in bytes. A shorter one could match a wrong password by
/// chance.
const LEAST_DIGEST: usize = 16;
const MOST_DIGEST: usize = 128;
const MOST_SALT: usize = 256;

/// Implementations differ in padding and in the unused bits after the last byte. Neither is
/// significant here.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

const STANDARD_BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
/// bcrypt's own alphabet.
pub(super) const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, LENIENT);

/// Base64 with or without padding, and with `.` for `+` as passlib writes it.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_BASE64.decode(text.replace('.', "+")).ok()
}

/// A digest in base64.
pub(super) fn digest(text: &str) -> Option<Vec<u8>> {
    base64(text).filter(|bytes| is_digest(bytes))
}

pub(super) fn is_digest(bytes: &[u8]) -> bool {
    (LEAST_DIGEST..=MOST_DIGEST).contains(&bytes.len())
}

/// The base64 of crypt(3): another alphabet, and the least significant bits come first.
pub(super) fn crypt_base64(text: &str) -> Option<Vec<u8>> {
    Base64ShaCrypt::decode_vec(text).ok()
}

/// A salt in base64.
pub(super) fn salt(text: &str) -> Option<Vec<u8>> {
    base64(text).filter(|bytes| bytes.len() <= MOST_SALT)
}

/// A salt whose text is used as it is.
pub(super) fn text_salt(text: &str) -> Option<Vec<u8>> {
    (text.len() <= MOST_SALT).then(|| text.as_bytes().to_vec())
}

/// A salt of crypt(3), whose text is used as it is: printable ASCII without what separates fields.
pub(super) fn crypt_salt(text: &str) -> Option<Vec<u8>> {
    let in_salt = |byte: &u8| byte.is_ascii_graphic() && !b"$:".contains(byte);
    text_salt(text).filter(|salt| salt.iter().all(in_salt))
}

/// Splits `text` at the dollars, if it has exactly this many parts.
pub(super) fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split('$').collect::<Vec<_>>().try_into().ok()
}

/// The number after `name=` in a comma-separated list of parameters.
pub(super) fn parameter(list: &str, name: &str) -> Option<u32> {
    named(list, name)?.parse().ok()
}

/// The text after `name=` in a comma-separated list of parameters.
pub(super) fn named<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.split(',').find_map(|item| item.strip_prefix(name)?.strip_prefix('='))
}
