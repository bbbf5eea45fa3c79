//! The feed of what was revoked.

use http::Method;
use serde_json::{Value, json};
use service_kit::clock::machine_time;
use test_kit::{ENGINES, send};
use token_verifier::RevocationDigest;
use uuid::Uuid;

use super::{EMAIL, access_token, claims, offline_login, refresh_token, started, with_token};
use crate::support::Running;

async fn feed(service: &Running, after: &str) -> Value {
    let path = match after {
        "" => "/.well-known/revocations".to_owned(),
        after => format!("/.well-known/revocations?after={after}"),
    };
    let answer = service.rest.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "public, max-age=2");
    answer.json
}

fn digest(id: &str) -> String {
    RevocationDigest::of(id.parse::<Uuid>().unwrap()).to_string()
}

#[tokio::test]
async fn the_feed_tells_what_was_revoked_in_its_order() {
    for engine in ENGINES {
        let service = started(engine).await;
        let start = feed(&service, "").await;
        assert_eq!(start["reset"], true);
        assert_eq!(start["more"], false);
        assert_eq!(start["entries"], json!([]));
        let cursor = start["cursor"].as_str().unwrap();
        let idle = feed(&service, cursor).await;
        assert_eq!((&idle["reset"], &idle["cursor"]), (&json!(false), &start["cursor"]));

        let tokens = offline_login(&service).await;
        let claims = claims(&access_token(&tokens));
        let (sid, sub) = (claims["sid"].as_str().unwrap(), claims["sub"].as_str().unwrap());
        let body = json!({"refresh_token": refresh_token(&tokens)});
        service.rest.post("/auth/logout", &body).await;
        let first = feed(&service, cursor).await;
        assert_eq!(first["reset"], false, "{engine:?}");
        assert_eq!(first["entries"].as_array().unwrap().len(), 1);
        assert_eq!(first["entries"][0]["session"], digest(sid).as_str());
        let until = first["entries"][0]["until"].as_i64().unwrap();
        let left = until - machine_time().timestamp();
        assert!((3590..=3602).contains(&left), "{left}");

        let token = service.login(EMAIL).await;
        with_token(&service, Method::DELETE, "/auth/sessions", &token).await;
        let second = feed(&service, first["cursor"].as_str().unwrap()).await;
        let entry = &second["entries"][0];
        assert_eq!(entry["account"], digest(sub).as_str());
        assert_eq!(entry["generation"], 1);
        let all = feed(&service, cursor).await;
        assert_eq!(all["entries"].as_array().unwrap().len(), 2);

        // Unknown, of another installation, or malformed: all that counts.
        let other = started(engine).await;
        let foreign = feed(&other, "").await;
        for unknown in [foreign["cursor"].as_str().unwrap(), "x", "%00", "AAAA"] {
            let answer = feed(&service, unknown).await;
            assert_eq!(answer["reset"], true, "{unknown}");
            assert_eq!(answer["entries"].as_array().unwrap().len(), 2);
        }
        // Deletion ends the tokens too.
        service.delete_account(sub).await;
        let third = feed(&service, second["cursor"].as_str().unwrap()).await;
        assert_eq!(third["entries"][0]["generation"], 2, "{engine:?}");
    }
}

#[tokio::test]
async fn the_feed_has_a_tag_and_forgets_what_no_longer_counts() {
    for engine in ENGINES {
        let service = started(engine).await;
        for _ in 0..2 {
            let token = refresh_token(&offline_login(&service).await);
            service.rest.post("/auth/logout", &json!({"refresh_token": token})).await;
        }
        let answer = service.rest.get("/.well-known/revocations").await;
        let tag = answer.header("etag").to_owned();
        let known = service
            .rest
            .request(Method::GET, "/.well-known/revocations")
            .header("if-none-match", &tag);
        let not_modified = send(known).await;
        assert_eq!(not_modified.status, 304);
        assert_eq!(not_modified.header("etag"), tag);
        assert_eq!(not_modified.header("cache-control"), "public, max-age=2");
        let cursor = answer.json["cursor"].as_str().unwrap();
        // Tokens end after 3600 s; a verifier may take them for 300 s longer, and may have just started.
        service.advance_clock(chrono::TimeDelta::seconds(3890));
        service.service.prune().await;
        assert_eq!(feed(&service, "").await["entries"], answer.json["entries"], "{engine:?}");
        service.advance_clock(chrono::TimeDelta::seconds(15));
        assert_eq!(feed(&service, "").await["entries"], json!([]), "{engine:?}");
        service.service.prune().await;
        // Who has read all is not sent back to the start.
        assert_eq!(feed(&service, cursor).await["reset"], false);
    }
}
