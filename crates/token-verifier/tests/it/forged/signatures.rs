//! Signatures that are not the key's.

use token_verifier::KeySet;

use super::{Row, row, signature_of, with_header, with_signature};
use crate::forge::{
    ISSUER, SECRET, STRANGER, b64, claims, from_secret, header, hs256, sha256, token, unb64,
};

pub(super) fn rows() -> Vec<Row> {
    [signatures(), curve_edges(), bit_flips(), sources()].into_iter().flatten().collect()
}

fn signatures() -> Vec<Row> {
    let class = "signature";
    let mut rows = Vec::new();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let length = signature_of(&ISSUER.token(algorithm)).len();
        for (name, signature) in [
            ("empty", vec![]),
            ("one byte", vec![1]),
            ("zeros", vec![0; length]),
            ("ones", vec![0xff; length]),
            ("a hash", sha256(b"x")),
            ("short by one", vec![7; length - 1]),
            ("long by one", vec![7; length + 1]),
        ] {
            let token = with_signature(algorithm, signature);
            rows.push(row(class, format!("{algorithm}: {name}"), token, "bad_signature"));
        }
        let signature = signature_of(&ISSUER.token(algorithm));
        let good = ISSUER.token(algorithm);
        let (message, own) = good.rsplit_once('.').unwrap();
        let own = unb64(own);
        let mut zero_first = vec![0];
        zero_first.extend(&own);
        for (name, bytes) in [
            ("cut", own[..own.len() - 1].to_vec()),
            ("extended", [&own[..], &[0]].concat()),
            ("zero in front", zero_first),
            ("twice", [&own[..], &own].concat()),
            ("halves swapped", [&own[own.len() / 2..], &own[..own.len() / 2]].concat()),
        ] {
            let token = format!("{message}.{}", b64(bytes));
            rows.push(row(class, format!("{algorithm}: {name}"), token, "bad_signature"));
        }
        let header = header(algorithm, &ISSUER.kid(algorithm));
        let other = claims(r#","admin":true"#);
        let moved = format!("{}.{}.{}", b64(&header), b64(other), b64(signature));
        rows.push(row(class, format!("{algorithm}: of other claims"), moved, "bad_signature"));
        let stranger = STRANGER.token_of(algorithm, &header, &claims(""));
        rows.push(row(class, format!("{algorithm}: a stranger's"), stranger, "bad_signature"));
    }
    for secret in ["secret", "password", "your-256-bit-secret", "changeme", ""] {
        let weak = token(r#"{"alg":"HS256"}"#, claims(""), |m| hs256(secret.as_bytes(), m));
        let name = format!("HS256: {secret:?}");
        rows.push(row(class, name, weak, "bad_signature").against(from_secret()));
    }
    let short = token(r#"{"alg":"HS256"}"#, claims(""), |m| hs256(SECRET, m)[..16].to_vec());
    rows.push(row(class, "HS256: half a tag", short, "bad_signature").against(from_secret()));
    rows
}

/// Signature values that broke implementations of the curves (CVE-2022-21449 and its kin).
fn curve_edges() -> Vec<Row> {
    let class = "ECDSA and EdDSA edges";
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let n: Vec<u8> =
        (0..64).step_by(2).map(|i| u8::from_str_radix(&order[i..i + 2], 16).unwrap()).collect();
    let zero = vec![0; 32];
    let mut one = zero.clone();
    one[31] = 1;
    let mut rows = Vec::new();
    for (name, r, s) in [
        ("psychic: r = s = 0", &zero, &zero),
        ("r = 0", &zero, &one),
        ("s = 0", &one, &zero),
        ("r = s = n", &n, &n),
        ("r = n", &n, &one),
        ("s = n", &one, &n),
        ("r = s = 1", &one, &one),
    ] {
        let token = with_signature("ES256", [&r[..], s].concat());
        rows.push(row(class, name, token, "bad_signature"));
    }
    let der =
        token(&header("ES256", &ISSUER.kid("ES256")), claims(""), |m| ISSUER.sign_p256_der(m));
    rows.push(row(class, "DER instead of r and s", der, "bad_signature"));
    let psychic_der = with_signature("ES256", [0x30, 6, 2, 1, 0, 2, 1, 0]);
    rows.push(row(class, "psychic DER", psychic_der, "bad_signature"));
    let wide = with_signature("ES256", vec![0; 96]);
    rows.push(row(class, "size of P-384", wide, "bad_signature"));

    // S + L verifies wherever the range of S is not checked (RFC 8032 section 8.4).
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10_u8,
    ];
    let mut malleable = signature_of(&ISSUER.token("EdDSA"));
    let mut carry = 0;
    for (byte, addend) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(addend) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    rows.push(row(class, "EdDSA: S + L", with_signature("EdDSA", malleable), "bad_signature"));
    let mut identity = vec![0; 64];
    identity[0] = 1;
    rows.push(row(class, "EdDSA: identity", with_signature("EdDSA", identity), "bad_signature"));
    rows
}

fn bit_flips() -> Vec<Row> {
    let class = "bit flips";
    let mut rows = Vec::new();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let good = ISSUER.token(algorithm);
        let segments: Vec<_> = good.split('.').map(unb64).collect();
        for (name, segment, at) in [
            ("first byte of the claims", 1, 0),
            ("last byte of the claims", 1, segments[1].len() - 1),
            ("first byte of the signature", 2, 0),
            ("last byte of the signature", 2, segments[2].len() - 1),
        ] {
            let mut forged = segments.clone();
            forged[segment][at] ^= 0x04;
            let forged: Vec<_> = forged.iter().map(b64).collect();
            let name = format!("{algorithm}: {name}");
            rows.push(row(class, name, forged.join("."), "bad_signature"));
        }
        let mut forged = segments.clone();
        forged[0][0] ^= 1;
        let forged: Vec<_> = forged.iter().map(b64).collect();
        let name = format!("{algorithm}: first byte of the header");
        rows.push(row(class, name, forged.join("."), "bad_json"));
    }
    rows
}

fn sources() -> Vec<Row> {
    let class = "no key";
    let mut rows = Vec::new();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = ISSUER.token(algorithm);
        rows.push(row(class, algorithm, token, "unknown_key").against(KeySet::new(vec![])));
    }
    let stranger = KeySet::from_jwks(STRANGER.jwks().to_string().as_bytes()).unwrap();
    let token = ISSUER.token("RS256");
    rows.push(row(class, "another issuer's keys", token, "unknown_key").against(stranger.clone()));
    let nameless = with_header(r#"{"alg":"RS256"}"#);
    rows.push(row(class, "another issuer, no kid", nameless, "bad_signature").against(stranger));
    rows
}
