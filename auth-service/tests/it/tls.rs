//! TLS on both edges.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use auth_service::config;
use latchkey_contracts::auth::v1::{
    DeleteAccountRequest, ListAccountsRequest, account_service_client::AccountServiceClient,
    admin_service_client::AdminServiceClient,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use service_kit::{
    settings::Setting,
    tls::{Authorities, ClientTls, Connector, TLS_CERT_FILE, TLS_CLIENT_CA_FILE, TLS_KEY_FILE},
};
use test_kit::{
    Engine, TestDatabase,
    pki::{Identity, Pki},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::support::Running;

/// The answer to a request over TLS, as text, and the certificate of the server.
async fn https(
    address: SocketAddr,
    pki: &Pki,
    path: &str,
) -> std::io::Result<(String, CertificateDer<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.authority()).unwrap()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok((text, certificate))
}

async fn start(pki: &Pki, database: TestDatabase, mutual: bool) -> Running {
    start_with(pki, database, mutual, &[]).await
}

async fn start_with(
    pki: &Pki,
    database: TestDatabase,
    mutual: bool,
    others: &[(Setting, &str)],
) -> Running {
    let Identity { cert, key } = pki.identity("server");
    let ca = pki.authority();
    let mut settings = vec![(TLS_CERT_FILE, cert.as_str()), (TLS_KEY_FILE, key.as_str())];
    if mutual {
        settings.push((TLS_CLIENT_CA_FILE, ca.as_str()));
    }
    // Without a token only a certificate makes a service.
    settings.push((config::SERVICE_TOKEN, "another-token-of-32-bytes-or-more"));
    settings.extend(others);
    Running::start_on(database, &settings).await
}

/// A channel of a client that presents this certificate, if any.
fn channel(service: &Running, pki: &Pki, identity: Option<&Identity>) -> Channel {
    let files = |identity: &Identity| {
        [(TLS_CERT_FILE, identity.cert.clone()), (TLS_KEY_FILE, identity.key.clone())]
    };
    let ca = Authorities::File(TLS_CLIENT_CA_FILE, pki.authority());
    let tls = ClientTls::load(ca, identity.map(files)).unwrap();
    let port = service.grpc.port();
    Endpoint::from_shared(format!("http://localhost:{port}"))
        .unwrap()
        .connect_with_connector_lazy(Connector::new(tls))
}

/// Deletes an account that does not exist, as a service does, and returns the outcome.
async fn delete_account(
    service: &Running,
    pki: &Pki,
    identity: Option<&Identity>,
) -> Result<(), tonic::Status> {
    let id = "01890000-0000-7000-8000-000000000000".to_owned();
    let mut client = AccountServiceClient::new(channel(service, pki, identity));
    client.delete_account(DeleteAccountRequest { id }).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_speaks_tls_alone_and_takes_up_renewed_files() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let pki = Pki::new(database.folder());
    let service = start(&pki, database, false).await;
    let (answer, before) = https(service.http, &pki, "/readyz").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=31536000"), "{answer}");
    // Plaintext is not spoken here.
    let mut stream = TcpStream::connect(service.http).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");

    // Who watches over it sees when it ends.
    let metrics = test_kit::Client::new(service.admin.unwrap()).get("/metrics").await.text;
    let end =
        metrics.lines().find_map(|line| line.strip_prefix("tls_certificate_end_time_seconds "));
    let end: f64 = end.unwrap().parse().unwrap();
    assert!(end > 1.7e9, "{end} is not seconds since 1970");

    // A file that is no certificate changes nothing; the next renewal counts.
    let Identity { cert, .. } = pki.identity("other");
    std::fs::write(cert.replace("other", "server"), "nothing").unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(https(service.http, &pki, "/livez").await.unwrap().1, before);
    drop(pki.identity("server"));
    let renewed = async {
        while https(service.http, &pki, "/livez").await.unwrap().1 == before {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), renewed).await.unwrap();
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_mutual_tls_a_certificate_makes_a_service() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let pki = Pki::new(database.folder());
    let service = start(&pki, database, true).await;
    let client = pki.identity("client");
    delete_account(&service, &pki, Some(&client)).await.unwrap();
    // Without one there is no connection at all, nor with one of another authority.
    let not_connected = |refused: &tonic::Status| std::error::Error::source(refused).is_some();
    let refused = delete_account(&service, &pki, None).await.unwrap_err();
    assert!(not_connected(&refused), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let stranger = Pki::new(folder.path()).identity("client");
    let refused = delete_account(&service, &pki, Some(&stranger)).await.unwrap_err();
    assert!(not_connected(&refused), "{refused}");
    // REST asks for none.
    let (answer, _) = https(service.http, &pki, "/livez").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_service_s_or_an_operator_s() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let pki = Pki::new(database.folder());
    let names = [(config::ADMIN_CERT_NAMES, "nobody, back-office")];
    let service = start_with(&pki, database, true, &names).await;
    let (peer, office) = (pki.identity("client"), pki.identity("Back-Office"));
    let list = async |identity: &Identity| {
        let mut client = AdminServiceClient::new(channel(&service, &pki, Some(identity)));
        client.list_accounts(ListAccountsRequest::default()).await.map(drop)
    };
    list(&office).await.unwrap();
    assert_eq!(list(&peer).await.unwrap_err().code(), Code::Unauthenticated);
    delete_account(&service, &pki, Some(&peer)).await.unwrap();
    let refused = delete_account(&service, &pki, Some(&office)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mutual_tls_a_certificate_counts_for_nothing() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let pki = Pki::new(database.folder());
    let service = start(&pki, database, false).await;
    let client = pki.identity("client");
    let refused = delete_account(&service, &pki, Some(&client)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    service.stop().await;
}

#[tokio::test]
async fn a_certificate_file_that_cannot_be_read_any_more_is_told_once() {
    let database = TestDatabase::create(Engine::Sqlite).await;
    let pki = Pki::new(database.folder());
    let Identity { cert, key } = pki.identity("server");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("KEY_ENCRYPTION_KEY", crate::support::ENCRYPTION_KEY),
        ("TLS_CERT_FILE", &cert),
        ("TLS_KEY_FILE", &key),
    ];
    let binary = env!("CARGO_BIN_EXE_auth-service");
    let service = test_kit::process::Process::start(binary, database.folder(), &settings);
    service.find(|line| line["message"] == "listening").await;
    std::fs::rename(&cert, format!("{cert}.away")).unwrap();
    let told = service.find(|line| line["event"] == "tls.refused").await;
    assert_eq!(told["setting"], "TLS_CERT_FILE");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(service.output().matches("tls.refused").count(), 1);
    std::fs::rename(format!("{cert}.away"), &cert).unwrap();
    service.find(|line| line["event"] == "tls.renewed").await;
}
