//! Sessions and refresh tokens over both edges, and the feed of what was revoked.

mod feed;
mod rpc;

use std::sync::Arc;

use auth_service::config;
use http::Method;
use latchkey_contracts::auth::v1::{
    IntrospectTokenRequest, auth_service_client::AuthServiceClient,
};
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{Answer, ENGINES, Engine, channel, send};

use crate::support::{PASSWORD, Running, SERVICE_TOKEN};

const EMAIL: &str = "a@b.com";

async fn offline_login(service: &Running) -> Value {
    let body = json!({"email": EMAIL, "password": PASSWORD, "offline_access": true});
    let answer = service.rest.post("/auth/login", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json
}

fn refresh_token(tokens: &Value) -> String {
    tokens["refresh_token"].as_str().unwrap().to_owned()
}

fn access_token(tokens: &Value) -> String {
    tokens["access_token"].as_str().unwrap().to_owned()
}

async fn refresh(service: &Running, token: &str) -> Answer {
    service.rest.post("/auth/refresh", &json!({"refresh_token": token})).await
}

async fn refreshed(service: &Running, token: &str) -> Value {
    let answer = refresh(service, token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 401, "{}", answer.text);
    assert_eq!(answer.code(), "invalid_refresh_token");
    assert!(!answer.header("www-authenticate").is_empty());
}

async fn with_token(service: &Running, method: Method, path: &str, token: &str) -> Answer {
    send(service.rest.request(method, path).bearer_auth(token)).await
}

fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

async fn started(engine: Engine) -> Running {
    started_with(engine, &[]).await
}

async fn started_with(engine: Engine, overrides: &[(Setting, &str)]) -> Running {
    let service = Running::start_with(engine, overrides).await;
    service.register(EMAIL).await;
    service
}

#[tokio::test]
async fn a_session_is_begun_only_where_it_is_asked_for() {
    for engine in ENGINES {
        let service = started(engine).await;
        let plain = service.login(EMAIL).await;
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let answer = service.rest.post("/auth/login", &body).await;
        assert_eq!(answer.json.as_object().unwrap().len(), 3, "{}", answer.text);
        assert_eq!(claims(&plain)["gen"], 0);
        assert!(claims(&plain).get("sid").is_none());

        let tokens = offline_login(&service).await;
        assert!(refresh_token(&tokens).starts_with("lkr_"));
        assert_eq!(tokens["token_type"], "Bearer");
        assert_eq!(tokens["refresh_token_expires_in"], 1_209_600);
        let sid = claims(&access_token(&tokens))["sid"].as_str().unwrap().to_owned();
        let again = refreshed(&service, &refresh_token(&tokens)).await;
        assert_eq!(claims(&access_token(&again))["sid"], sid.as_str(), "{engine:?}");
        assert_ne!(refresh_token(&again), refresh_token(&tokens));
        for wrong in [json!("yes"), json!(1), json!(null)] {
            let body = json!({"email": EMAIL, "password": PASSWORD, "offline_access": wrong});
            let answer = service.rest.post("/auth/login", &body).await;
            assert_eq!(answer.status, 400, "{wrong}");
            assert_eq!(answer.json["errors"][0]["pointer"], "/offline_access");
        }
    }
}

#[tokio::test]
async fn retries_get_the_same_token_and_old_ones_end_the_session() {
    for engine in ENGINES {
        let service = started_with(engine, &[(config::REFRESH_RETRY_WINDOW, "1")]).await;
        let other = refresh_token(&offline_login(&service).await);
        let first = refresh_token(&offline_login(&service).await);
        let second = refresh_token(&refreshed(&service, &first).await);
        assert_eq!(refresh_token(&refreshed(&service, &first).await), second, "{engine:?}");
        service.advance_clock(chrono::TimeDelta::seconds(2));
        // The answer was lost, for the second was never presented: it is withdrawn.
        let third = refresh_token(&refreshed(&service, &first).await);
        assert_ne!(third, second);
        let answer = refresh(&service, &second).await;
        assert_refused(&answer);
        // Two had the token of one: the session has ended, others have not.
        assert_refused(&refresh(&service, &third).await);
        refreshed(&service, &other).await;
    }
}

#[tokio::test]
async fn many_refreshes_at_once_give_one_successor_on_two_replicas() {
    for engine in ENGINES {
        let one = Arc::new(started(engine).await);
        let two = Arc::new(Running::start_beside(&one, &[]).await);
        let token = refresh_token(&offline_login(&one).await);
        let refreshes: Vec<_> = (0..50)
            .map(|number| {
                let service = Arc::clone(if number % 2 == 0 { &one } else { &two });
                let token = token.clone();
                tokio::spawn(async move { refresh_token(&refreshed(&service, &token).await) })
            })
            .collect();
        let mut successors = std::collections::BTreeSet::new();
        for refresh in refreshes {
            successors.insert(refresh.await.unwrap());
        }
        assert_eq!(successors.len(), 1, "{engine:?}");
        refreshed(&two, successors.first().unwrap()).await;
    }
}

#[tokio::test]
async fn whatever_is_no_live_refresh_token_is_refused_alike() {
    for engine in ENGINES {
        let service = started(engine).await;
        let good = refresh_token(&offline_login(&service).await);
        let mut forged = good.clone().into_bytes();
        let last = forged.len() - 2;
        forged[last] ^= 1;
        let forged = String::from_utf8(forged).unwrap();
        let mut bodies = Vec::new();
        for token in ["", "x", "lkr_", &forged, &format!("{good}x"), &good.replace("lkr_", "LKR_")]
        {
            let answer = refresh(&service, token).await;
            assert_refused(&answer);
            let mut body = answer.json;
            body["request_id"] = Value::Null;
            bodies.push(body);
        }
        let logout = service.rest.post("/auth/logout", &json!({"refresh_token": good})).await;
        assert_eq!(logout.status, 204);
        let answer = refresh(&service, &good).await;
        assert_refused(&answer);
        let mut body = answer.json;
        body["request_id"] = Value::Null;
        bodies.push(body);
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");

        for path in ["/auth/refresh", "/auth/logout"] {
            for (body, code) in [
                (json!({}), "required"),
                (json!({"refresh_token": 1}), "not_a_string"),
                (json!({"refresh_token": "x", "extra": 1}), "unknown_member"),
            ] {
                let answer = service.rest.post(path, &body).await;
                assert_eq!(answer.status, 400, "{path} {body}");
                assert_eq!(answer.json["errors"][0]["code"], code);
            }
        }
        for token in ["", "x", &good] {
            let answer = service.rest.post("/auth/logout", &json!({"refresh_token": token})).await;
            assert_eq!(answer.status, 204, "{token:?}");
        }
    }
}

#[tokio::test]
async fn sessions_end_by_idling_and_by_age() {
    for engine in ENGINES {
        let limits = [(config::SESSION_IDLE_TIMEOUT, "1000"), (config::SESSION_LIFETIME, "2500")];
        let service = started_with(engine, &limits).await;
        let idle = refresh_token(&offline_login(&service).await);
        let tokens = offline_login(&service).await;
        assert_eq!(tokens["refresh_token_expires_in"], 1000);
        let mut token = refresh_token(&tokens);
        for expected in [1000, 900, 100] {
            service.advance_clock(chrono::TimeDelta::seconds(800));
            let tokens = refreshed(&service, &token).await;
            let left = tokens["refresh_token_expires_in"].as_i64().unwrap();
            assert!((expected - 60..=expected).contains(&left), "{left} {expected}");
            token = refresh_token(&tokens);
        }
        assert_refused(&refresh(&service, &idle).await);
        service.advance_clock(chrono::TimeDelta::seconds(101));
        assert_refused(&refresh(&service, &token).await);
    }
}

#[tokio::test]
async fn an_account_has_so_many_sessions_and_the_longest_unused_ends() {
    for engine in ENGINES {
        let service = started_with(engine, &[(config::SESSIONS_PER_ACCOUNT, "2")]).await;
        let mut tokens = Vec::new();
        for _ in 0..3 {
            tokens.push(refresh_token(&offline_login(&service).await));
            if let Some(first) = tokens.first_mut() {
                *first = refresh_token(&refreshed(&service, first).await);
            }
        }
        assert_refused(&refresh(&service, &tokens[1]).await);
        refreshed(&service, &tokens[0]).await;
        refreshed(&service, &tokens[2]).await;
    }
}

#[tokio::test]
async fn people_see_and_end_their_sessions() {
    for engine in ENGINES {
        let service = started(engine).await;
        let body = json!({"email": EMAIL, "password": PASSWORD, "offline_access": true});
        let agent = format!("curl/8.0 {}", "x".repeat(300));
        let login = service.rest.request(Method::POST, "/auth/login").header("user-agent", &agent);
        let other = send(login.json(&body)).await.json;
        let mine = access_token(&offline_login(&service).await);
        let listed = with_token(&service, Method::GET, "/auth/sessions", &mine).await;
        assert_eq!(listed.status, 200, "{}", listed.text);
        assert_eq!(listed.header("cache-control"), "no-store");
        let sessions = listed.json["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 2);
        let (current, others): (Vec<_>, Vec<_>) =
            sessions.iter().partition(|session| session["current"] == true);
        assert_eq!(current[0]["id"], claims(&mine)["sid"]);
        assert_eq!(current[0]["network"], "127.0.0.1");
        assert_eq!(others[0]["user_agent"].as_str().unwrap(), &agent[..200]);
        assert_eq!(others[0].as_object().unwrap().len(), 7);

        let id = others[0]["id"].as_str().unwrap();
        let path = format!("/auth/sessions/{id}");
        service.register("other@b.com").await;
        let stranger = service.login("other@b.com").await;
        for (token, path, status, code) in [
            (&stranger, path.as_str(), 404, "session_not_found"),
            (
                &mine,
                "/auth/sessions/00000000-0000-0000-0000-000000000000",
                404,
                "session_not_found",
            ),
            (&mine, "/auth/sessions/me", 400, "validation_failed"),
        ] {
            let answer = with_token(&service, Method::DELETE, path, token).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path}");
        }
        assert_eq!(with_token(&service, Method::DELETE, &path, &mine).await.status, 204);
        let again = with_token(&service, Method::DELETE, &path, &mine).await;
        assert_eq!(again.code(), "session_not_found", "{engine:?}");
        assert_refused(&refresh(&service, &refresh_token(&other)).await);
        // Its access token is refused here at once.
        let revoked =
            with_token(&service, Method::GET, "/auth/sessions", &access_token(&other)).await;
        assert_eq!((revoked.status.as_u16(), revoked.code()), (401, "token_revoked"));
        let none = service.rest.get("/auth/sessions").await;
        assert_eq!((none.status.as_u16(), none.code()), (401, "unauthenticated"));
        let invalid = with_token(&service, Method::GET, "/auth/sessions", "x.y.z").await;
        assert_eq!((invalid.status.as_u16(), invalid.code()), (401, "invalid_token"));
    }
}

async fn is_active(service: &Running, token: &str) -> bool {
    let mut client = AuthServiceClient::new(channel(service.grpc).await);
    let mut request = tonic::Request::new(IntrospectTokenRequest { token: token.to_owned() });
    let bearer = format!("Bearer {SERVICE_TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    client.introspect_token(request).await.unwrap().into_inner().active
}

#[tokio::test]
async fn out_everywhere_ends_every_token() {
    for engine in ENGINES {
        let service = started(engine).await;
        let plain = service.login(EMAIL).await;
        let tokens = offline_login(&service).await;
        assert!(
            is_active(&service, &plain).await && is_active(&service, &access_token(&tokens)).await
        );
        let out = with_token(&service, Method::DELETE, "/auth/sessions", &plain).await;
        assert_eq!(out.status, 204, "{}", out.text);
        assert_refused(&refresh(&service, &refresh_token(&tokens)).await);
        for token in [&plain, &access_token(&tokens)] {
            assert!(!is_active(&service, token).await, "{engine:?}");
            let refused = with_token(&service, Method::GET, "/auth/sessions", token).await;
            assert_eq!(refused.code(), "token_revoked");
        }
        let fresh = service.login(EMAIL).await;
        assert_eq!(claims(&fresh)["gen"], 1);
        assert!(is_active(&service, &fresh).await);
    }
}

#[tokio::test]
async fn without_refresh_tokens_logout_and_list_go_on() {
    for engine in ENGINES {
        let service = started(engine).await;
        let tokens = offline_login(&service).await;
        let off = [(config::REFRESH_TOKENS, "false")];
        let service = Running::start_on(service.stop().await, &off).await;
        let body = json!({"email": EMAIL, "password": PASSWORD, "offline_access": true});
        let refused = service.rest.post("/auth/login", &body).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json["errors"][0]["pointer"], "/offline_access");
        assert_refused(&refresh(&service, &refresh_token(&tokens)).await);
        let token = access_token(&tokens);
        let listed = with_token(&service, Method::GET, "/auth/sessions", &token).await;
        assert_eq!(listed.json["sessions"].as_array().unwrap().len(), 1, "{engine:?}");
        let body = json!({"refresh_token": refresh_token(&tokens)});
        assert_eq!(service.rest.post("/auth/logout", &body).await.status, 204);
        let listed = with_token(&service, Method::GET, "/auth/sessions", &token).await;
        assert_eq!(listed.code(), "token_revoked");
    }
}

#[tokio::test]
async fn a_network_has_its_share_of_refreshes_each_minute() {
    let service = started_with(Engine::Sqlite, &[(config::REFRESHES_PER_MINUTE, "2")]).await;
    let mut last = refresh(&service, "x").await;
    for _ in 0..2 {
        last = refresh(&service, "x").await;
    }
    assert_eq!((last.status.as_u16(), last.code()), (429, "too_many_requests"));
    assert!(last.header("ratelimit-policy").starts_with("\"refreshes-per-network\""));
}

#[tokio::test]
async fn rewrapping_the_keys_ends_no_session() {
    use auth_service::keys::Sealer;

    for engine in ENGINES {
        let service = started(engine).await;
        let token = refresh_token(&offline_login(&service).await);
        let database = service.stop().await;
        let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let settings = crate::support::settings(&database.url, &[]);
        let mut settings = settings;
        let settings = config::Settings::read(&mut settings).unwrap();
        let keys = auth_service::managed_keys(settings).await.unwrap().unwrap();
        keys.rewrap(&Sealer::from_base64(other).unwrap()).await.unwrap();
        let service = Running::start_on(database, &[(config::KEY_ENCRYPTION_KEY, other)]).await;
        refreshed(&service, &token).await;
    }
}

/// The generation of an account grows while a login is under way, without a change of the password.
#[tokio::test]
async fn out_everywhere_does_not_refuse_a_right_password() {
    for engine in ENGINES {
        let slow = [(config::BCRYPT_COST, "13"), (config::HASH_WORKERS, "1")];
        let service = Arc::new(started_with(engine, &slow).await);
        let token = service.login(EMAIL).await;
        let logins = [false, true].map(|offline_access| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let body =
                    json!({"email": EMAIL, "password": PASSWORD, "offline_access": offline_access});
                service.rest.post("/auth/login", &body).await
            })
        });
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let out = with_token(&service, Method::DELETE, "/auth/sessions", &token).await;
        assert_eq!(out.status, 204);
        for login in logins {
            let answer = login.await.unwrap();
            assert_eq!(answer.status, 200, "{engine:?}: {}", answer.text);
            assert!(is_active(&service, &access_token(&answer.json)).await, "{engine:?}");
        }
    }
}

#[tokio::test]
async fn nothing_under_auth_has_a_query_parameter() {
    let service = started(Engine::Sqlite).await;
    let token = service.login(EMAIL).await;
    for (method, path) in [
        (Method::POST, "/auth/register"),
        (Method::POST, "/auth/login"),
        (Method::POST, "/auth/refresh"),
        (Method::POST, "/auth/logout"),
        (Method::GET, "/auth/sessions"),
        (Method::DELETE, "/auth/sessions"),
    ] {
        let path = format!("{path}?x=1");
        let request = service.rest.request(method, &path).bearer_auth(&token);
        let answer = send(request.json(&json!({}))).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json["errors"][0]["pointer"], "/x", "{path}: {}", answer.text);
        assert_eq!(answer.json["errors"][0]["code"], "unknown_parameter");
    }
    assert_eq!(service.rest.get("/.well-known/revocations?x=1").await.status, 200);
}

#[tokio::test]
async fn the_token_is_judged_before_the_rest_of_a_request() {
    let service = started(Engine::Sqlite).await;
    for (method, path) in [
        (Method::GET, "/auth/sessions"),
        (Method::DELETE, "/auth/sessions"),
        (Method::DELETE, "/auth/sessions/x"),
        (Method::PUT, "/auth/password"),
        (Method::PUT, "/auth/email"),
        (Method::POST, "/auth/account/delete"),
    ] {
        for query in ["", "?x=1", "?x=1&x=1"] {
            let request = service.rest.request(method.clone(), &format!("{path}{query}"));
            let answer = send(request.body("no JSON")).await;
            assert_eq!(answer.status, 401, "{method} {path}{query}: {}", answer.text);
        }
    }
    // Whether there is mail comes before the shape of a request, too.
    let forgot = service.rest.request(Method::POST, "/auth/password/forgot?x=1");
    let token = service.login(EMAIL).await;
    let change = service.rest.request(Method::PUT, "/auth/email?x=1").bearer_auth(&token);
    for request in [forgot, change] {
        let answer = send(request.body("no JSON")).await;
        assert_eq!((answer.status.as_u16(), &answer.json["code"]), (404, &json!("mail_disabled")));
    }
}
