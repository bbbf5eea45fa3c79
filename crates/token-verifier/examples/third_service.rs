//! A third service that lets in whoever has a valid access token of Latchkey.
//!
//! `cargo run -p token-verifier --features axum --example third_service`, then
//! `curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:5000/whoami`.

use axum::{Router, routing::get};
use token_verifier::{JwksCache, Rules, Verifier, axum::Caller};

async fn whoami(Caller(claims): Caller) -> String {
    claims.sub.to_string()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = JwksCache::new("http://127.0.0.1:3000/.well-known/jwks.json")?;
    tokio::spawn(cache.clone().run(std::future::pending()));

    let rules = Rules::default().audience("latchkey");
    let verifier = Verifier::with_jwks(cache, rules);

    let app = Router::new().route("/whoami", get(whoami)).with_state(verifier);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}
