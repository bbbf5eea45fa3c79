//! Which algorithm a token is checked with.

use aws_lc_rs::signature::{
    KeyPair, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Row, row, with_header};
use crate::forge::{
    ISSUER, claims, from_jwks, from_pem, from_secret, header, hs256, pem, token, unb64,
};

pub(super) fn rows() -> Vec<Row> {
    [none(), key_as_secret(), confusion()].into_iter().flatten().collect()
}

fn none() -> Vec<Row> {
    let class = "alg none";
    let mut rows = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "null", "none ", "no\\u006ee"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"{}"}}"#, ISSUER.kid("RS256"));
        let unsigned = token(&header, claims(""), |_| Vec::new());
        for (source, keys) in
            [("jwks", from_jwks()), ("pem", from_pem("RS256")), ("secret", from_secret())]
        {
            let name = format!("{alg:?} against {source}");
            rows.push(row(class, name, unsigned.clone(), "unsupported_algorithm").against(keys));
        }
        let signed = with_header(&header);
        rows.push(row(class, format!("{alg:?}, signed"), signed, "unsupported_algorithm"));
    }
    for alg in ["null", "0", "[]", r#"["RS256"]"#, r#"{"alg":"RS256"}"#, "true"] {
        let token = with_header(&format!(r#"{{"alg":{alg}}}"#));
        rows.push(row(class, format!("alg is {alg}"), token, "unsupported_algorithm"));
    }
    rows.push(row(class, "no alg", with_header("{}"), "unsupported_algorithm"));
    rows.push(row(class, "ALG", with_header(r#"{"ALG":"RS256"}"#), "unsupported_algorithm"));
    rows
}

/// The public key used as an HMAC secret, in every form that a library may hold it in.
fn key_as_secret() -> Vec<Row> {
    let class = "public key as HMAC secret";
    let der = ISSUER.rsa_der();
    let text = pem("PUBLIC KEY", &der);
    let jwk = ISSUER.public()[0].to_jwk().unwrap();
    let point = ISSUER.p256.public_key().as_ref().to_vec();
    let forms: Vec<(&str, &str, Vec<u8>)> = vec![
        ("RS256", "PEM", text.clone().into_bytes()),
        ("RS256", "PEM, no final newline", text.trim_end().as_bytes().to_vec()),
        ("RS256", "PEM, CRLF", text.replace('\n', "\r\n").into_bytes()),
        ("RS256", "PEM, one line", text.replace('\n', "").into_bytes()),
        ("RS256", "PKCS#1 PEM", pem("RSA PUBLIC KEY", ISSUER.rsa.public_key().as_ref()).into()),
        ("RS256", "SPKI DER", der.clone()),
        ("RS256", "PKCS#1 DER", ISSUER.rsa.public_key().as_ref().to_vec()),
        ("RS256", "base64 of DER", STANDARD.encode(&der).into_bytes()),
        ("RS256", "modulus", unb64(jwk["n"].as_str().unwrap())),
        ("RS256", "modulus in base64url", jwk["n"].as_str().unwrap().into()),
        ("RS256", "JWK", jwk.to_string().into_bytes()),
        ("RS256", "JWKS", ISSUER.jwks().to_string().into_bytes()),
        ("RS256", "thumbprint", ISSUER.kid("RS256").into_bytes()),
        ("ES256", "PEM", pem("PUBLIC KEY", &ISSUER.p256_der()).into_bytes()),
        ("ES256", "SPKI DER", ISSUER.p256_der()),
        ("ES256", "point", point.clone()),
        ("ES256", "x coordinate", point[1..33].to_vec()),
        ("EdDSA", "PEM", pem("PUBLIC KEY", &ISSUER.ed25519_der()).into_bytes()),
        ("EdDSA", "SPKI DER", ISSUER.ed25519_der()),
        ("EdDSA", "raw", ISSUER.ed25519.public_key().as_ref().to_vec()),
        ("RS256", "empty", Vec::new()),
    ];
    let mut rows = Vec::new();
    for (algorithm, form, secret) in forms {
        let sign = |message: &[u8]| hs256(&secret, message);
        let named = token(&header("HS256", &ISSUER.kid(algorithm)), claims(""), sign);
        let name = format!("{algorithm}: {form}");
        rows.push(row(class, name.clone(), named.clone(), "algorithm_mismatch"));
        let single = from_pem(algorithm);
        rows.push(row(class, name + " (pem)", named, "algorithm_mismatch").against(single));
        let nameless = token(r#"{"alg":"HS256"}"#, claims(""), sign);
        let name = format!("{algorithm}: {form}, no kid");
        rows.push(row(class, name, nameless, "algorithm_mismatch"));
    }
    rows
}

fn confusion() -> Vec<Row> {
    let class = "algorithm confusion";
    let mut rows = Vec::new();
    let schemes: [(&str, &'static dyn RsaEncoding); 3] =
        [("RS384", &RSA_PKCS1_SHA384), ("RS512", &RSA_PKCS1_SHA512), ("PS256", &RSA_PSS_SHA256)];
    for (alg, scheme) in schemes {
        let kid = ISSUER.kid("RS256");
        let sign = |message: &[u8]| ISSUER.sign_rsa(scheme, message);
        let honest = token(&header(alg, &kid), claims(""), sign);
        rows.push(row(class, format!("a real {alg}"), honest, "unsupported_algorithm"));
        let claimed = token(&header("RS256", &kid), claims(""), sign);
        rows.push(row(class, format!("{alg} that says RS256"), claimed, "bad_signature"));
    }
    for (named, signed) in [
        ("RS256", "ES256"),
        ("RS256", "EdDSA"),
        ("ES256", "RS256"),
        ("ES256", "EdDSA"),
        ("EdDSA", "RS256"),
        ("EdDSA", "ES256"),
    ] {
        let header_of_signer = header(signed, &ISSUER.kid(named));
        let token = ISSUER.token_of(signed, &header_of_signer, &claims(""));
        let name = format!("{signed} under the kid of {named}");
        rows.push(row(class, name.clone(), token.clone(), "algorithm_mismatch"));
        let single = from_pem(named);
        rows.push(row(class, name + " (pem)", token, "algorithm_mismatch").against(single));
        let token = ISSUER.token_of(signed, &header(named, &ISSUER.kid(named)), &claims(""));
        rows.push(row(class, format!("{signed} that says {named}"), token, "bad_signature"));
    }
    for alg in ["RS256", "ES256", "EdDSA"] {
        let token = ISSUER.token(alg);
        let name = format!("{alg} against a secret");
        rows.push(row(class, name, token, "algorithm_mismatch").against(from_secret()));
    }
    for alg in [
        "HS384",
        "HS512",
        "PS384",
        "PS512",
        "ES384",
        "ES512",
        "ES256K",
        "Ed448",
        "EDDSA",
        "rs256",
        "Rs256",
        " RS256",
        "RS256 ",
        "RS256\\u0000",
        "RS1",
        "HS1",
        "HMD5",
        "dir",
        "RSA1_5",
        "RSA-OAEP",
        "A128KW",
        "ECDH-ES",
        "PBES2-HS256+A128KW",
        "ML-DSA-44",
        "RS256,HS256",
    ] {
        let token = with_header(&header(alg, &ISSUER.kid("RS256")));
        rows.push(row(class, format!("alg {alg:?}"), token, "unsupported_algorithm"));
    }
    rows
}
