//! Both services over mutual TLS: keys are fetched and deletions told between them, and a
//! certificate takes the place of the service token.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use http::Method;
use latchkey_contracts::auth::v1::{
    IntrospectTokenRequest, LoginRequest, RegisterRequest, auth_service_client::AuthServiceClient,
};
use service_kit::{
    settings::Source,
    tls::{Authorities, ClientTls, Connector, TLS_CERT_FILE, TLS_CLIENT_CA_FILE, TLS_KEY_FILE},
};
use test_kit::{Client, Engine, TestDatabase, pki::Pki, send};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

fn local(source: &mut Source, settings: [service_kit::settings::Setting; 3]) {
    for setting in settings {
        source.set(&setting, "127.0.0.1:0");
    }
}

async fn start_auth(
    database: &TestDatabase,
    pki: &Pki,
    stop: &CancellationToken,
) -> (std::net::SocketAddr, std::net::SocketAddr) {
    use auth_service::config;

    let identity = pki.identity("auth-service");
    let mut source = Source::default();
    source.set(&config::DATABASE_URL, &database.url);
    source.set(&config::KEY_ENCRYPTION_KEY, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    source.set(&config::BCRYPT_COST, "10");
    source.set(&TLS_CERT_FILE, identity.cert);
    source.set(&TLS_KEY_FILE, identity.key);
    source.set(&TLS_CLIENT_CA_FILE, pki.authority());
    local(&mut source, [config::HTTP_ADDR, config::GRPC_ADDR, config::ADMIN_ADDR]);
    let settings = config::Settings::read(&mut source).unwrap();
    let app = auth_service::App::build(settings, stop.clone()).await.unwrap();
    let (http, grpc, health) =
        (app.server().http_address(), app.server().grpc_address(), app.server().health().clone());
    tokio::spawn(app.run());
    health.ready().await;
    (http, grpc)
}

async fn start_user(
    database: &TestDatabase,
    pki: &Pki,
    (http, grpc): (std::net::SocketAddr, std::net::SocketAddr),
    stop: &CancellationToken,
) -> Client {
    use user_service::config;

    let identity = pki.identity("user-service");
    let mut source = Source::default();
    source.set(&config::DATABASE_URL, &database.url);
    let jwks = format!("https://localhost:{}/.well-known/jwks.json", http.port());
    source.set(&config::JWKS_URL, jwks);
    source.set(&config::AUTH_GRPC_URL, format!("https://localhost:{}", grpc.port()));
    source.set(&config::TLS_CA_FILE, pki.authority());
    source.set(&config::TLS_CLIENT_CERT_FILE, identity.cert);
    source.set(&config::TLS_CLIENT_KEY_FILE, identity.key);
    local(&mut source, [config::HTTP_ADDR, config::GRPC_ADDR, config::ADMIN_ADDR]);
    let settings = config::Settings::read(&mut source).unwrap();
    let app = user_service::App::build(settings, stop.clone()).await.unwrap();
    let (http, health) = (app.server().http_address(), app.server().health().clone());
    tokio::spawn(app.run());
    health.ready().await;
    Client::new(http)
}

fn client(pki: &Pki, grpc: std::net::SocketAddr) -> AuthServiceClient<Channel> {
    let identity = pki.identity("gateway");
    let files = [(TLS_CERT_FILE, identity.cert), (TLS_KEY_FILE, identity.key)];
    let ca = Authorities::File(TLS_CLIENT_CA_FILE, pki.authority());
    let tls = ClientTls::load(ca, Some(files)).unwrap();
    let endpoint = Endpoint::from_shared(format!("http://localhost:{}", grpc.port())).unwrap();
    AuthServiceClient::new(endpoint.connect_with_connector_lazy(Connector::new(tls)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_and_is_deleted_over_mutual_tls() {
    let databases =
        (TestDatabase::create(Engine::Sqlite).await, TestDatabase::create(Engine::Sqlite).await);
    let pki = Pki::new(databases.0.folder());
    let stop = CancellationToken::new();
    let auth = start_auth(&databases.0, &pki, &stop).await;
    let users = start_user(&databases.1, &pki, auth, &stop).await;
    let mut client = client(&pki, auth.1);

    let (email, password) = ("a@b.com".to_owned(), "S3cureP@ss".to_owned());
    let person = RegisterRequest { email: email.clone(), password: password.clone() };
    let id = client.register(person).await.unwrap().into_inner().id;
    let issued = client
        .login(LoginRequest { email, password, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    let token = issued.access_token;
    let path = format!("/users/{id}");
    let own = async |method| send(users.request(method, &path).bearer_auth(&token)).await;
    assert_eq!(own(Method::GET).await.status, 200);
    assert_eq!(own(Method::DELETE).await.status, 204);

    let gone = async {
        let request = || IntrospectTokenRequest { token: token.clone() };
        while client.introspect_token(request()).await.unwrap().into_inner().active {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    stop.cancel();
}
