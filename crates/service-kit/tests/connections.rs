//! What one connection can take of a listener, seen from the other end of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::IntoResponse as _, routing::get};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use service_kit::{
    catalogue::Catalogue,
    edge::Edge,
    grpc,
    health::{Health, Successes},
    listen::{AnswerMemory, Limits, Listener, Protocol},
    metrics::Metrics,
    rest,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1024 * 1024;

fn edge(metrics: &Metrics) -> Edge {
    Edge {
        service: "test",
        metrics: metrics.clone(),
        traces: service_kit::trace::Traces::default(),
        trusted_proxies: Default::default(),
        allowed_origins: Vec::new(),
        tls: false,
        draining: CancellationToken::new(),
    }
}

async fn serve(protocol: Protocol, router: Router) -> SocketAddr {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind("test", address, protocol, Limits::admin()).await.unwrap();
    let address = listener.address();
    tokio::spawn(listener.serve(router, CancellationToken::new()));
    address
}

async fn serve_rest(routes: Router) -> SocketAddr {
    serve(Protocol::Rest, rest::finish(&edge(&Metrics::default()), Catalogue::NONE, routes)).await
}

/// The gRPC edge with health and reflection.
async fn serve_grpc(metrics: &Metrics) -> SocketAddr {
    let health =
        Health::start("test", "1", Vec::new(), Successes::default(), CancellationToken::new());
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(health.grpc_server(&["a.B"]));
    grpc::add_reflection(&mut routes, &[]).unwrap();
    serve(Protocol::Grpc, grpc::finish(&edge(metrics), &[], routes.routes()).unwrap()).await
}

async fn connect(address: SocketAddr, window: u32) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn get_request(path: &str) -> http::Request<()> {
    http::Request::get(format!("http://a{path}")).body(()).unwrap()
}

fn call(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://a{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Memory that tells whether it is held.
struct Held(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), SeqCst);
    }
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused_as_everything_else_is() {
    let large = "x".repeat(100_000);
    let rest = serve_rest(Router::new()).await;
    let mut request = get_request("/");
    request.headers_mut().insert("x-large", large.parse().unwrap());
    let (answer, _) = connect(rest, 65_535).await.send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 431);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(answer.headers().contains_key("x-request-id"));
    // The target is one of the fields.
    let request = get_request(&format!("/?q={}", &large[..40_000]));
    let (answer, _) = connect(rest, 65_535).await.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 431);

    let grpc = serve_grpc(&Metrics::default()).await;
    let mut request = call("/grpc.health.v1.Health/Check");
    request.headers_mut().insert("x-large", large.parse().unwrap());
    let (answer, _) = connect(grpc, 65_535).await.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().headers()["grpc-status"], "8");
}

#[tokio::test]
async fn answers_that_are_not_read_hold_so_much_and_no_more() {
    const ANSWER: usize = 2 * MIB;
    let (made, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, sizes) = (Arc::clone(&made), Arc::clone(&held));
    let large = get(move |request: Request| {
        let (count, sizes) = (Arc::clone(&count), Arc::clone(&sizes));
        async move {
            let room = AnswerMemory::of(request.extensions()).reserve(ANSWER).await?;
            count.fetch_add(1, SeqCst);
            sizes.fetch_add(ANSWER, SeqCst);
            let body = Bytes::from_owner(Held(vec![0; ANSWER], sizes));
            let mut response = axum::body::Body::from(body).into_response();
            response.extensions_mut().insert(room.unwrap());
            Ok::<_, service_kit::error::ApiError>(response)
        }
    });
    let address = serve_rest(Router::new().route("/large", large)).await;
    let mut client = connect(address, 0).await;
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(client.send_request(get_request("/large"), true).unwrap().0);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(made.load(SeqCst), 4, "8 MiB are four answers of 2 MiB");

    // Whoever then reads gets all of them, and the memory of each is freed.
    for answer in answers {
        let mut body = answer.await.unwrap().into_body();
        let _ = body.flow_control().release_capacity(0);
        drop(body);
    }
    let freed = async {
        while held.load(SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.unwrap();
    assert_eq!(made.load(SeqCst), 50);
}

#[tokio::test]
async fn a_message_is_refused_by_its_length() {
    let address = serve_grpc(&Metrics::default()).await;
    let mut client = connect(address, 65_535).await;
    let (answer, mut body) =
        client.send_request(call("/grpc.health.v1.Health/Check"), false).unwrap();
    // 64 KiB and a byte are announced, and never sent.
    body.send_data(Bytes::from_static(&[0, 0, 1, 0, 1]), false).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "8");
    assert!(answer.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_its_message_comes_counts_as_cancelled() {
    let metrics = Metrics::default();
    let address = serve_grpc(&metrics).await;
    let mut client = connect(address, 65_535).await;
    let (answer, mut body) =
        client.send_request(call("/grpc.health.v1.Health/Check"), false).unwrap();
    body.send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    body.send_reset(h2::Reason::CANCEL);
    drop(answer);
    let cancelled = "rpc_response_status_code=\"CANCELLED\"} 1";
    let counted = async {
        while !metrics.render().contains(cancelled) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(5), counted).await;
    assert!(waited.is_ok(), "{}", metrics.render());
}

#[tokio::test]
async fn what_is_no_call_gets_a_problem_document() {
    let address = serve_grpc(&Metrics::default()).await;
    let json = http::Request::post("http://a/grpc.health.v1.Health/Check")
        .header("content-type", "application/json");
    for (request, status, code) in [
        (json.body(()).unwrap(), 415, "unsupported_media_type"),
        (get_request("/grpc.health.v1.Health/Check"), 405, "method_not_allowed"),
    ] {
        let mut client = connect(address, 65_535).await;
        let answer = client.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = answer.into_body().data().await.unwrap().unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["code"], code);
    }
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let address = serve_grpc(&Metrics::default()).await;
    let mut client = connect(address, 65_535).await;
    let mut request = call("/grpc.health.v1.Health/Check");
    request.headers_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let answer = client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "3");
}

/// Sends bytes over HTTP/1.1 and returns everything that comes until the connection ends.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer));
    read.await.unwrap_or_else(|_| panic!("the connection stays open after {request:?}")).unwrap();
    answer
}

#[tokio::test]
async fn odd_requests_are_answered_as_the_standard_says() {
    let routes = Router::new().route("/a", get(async || "it")).route(
        "/b",
        axum::routing::post(async |request: Request| {
            request.into_body().collect().await.map(|_| "it").map_err(|_| "broken")
        }),
    );
    let address = serve_rest(routes).await;
    for (head, status) in [
        ("GET /a HTTP/1.1\r\nHost: a b", 400),
        ("GET /a HTTP/1.1\r\nHost: user:pw@h", 400),
        ("GET /a HTTP/1.1\r\nHost: x", 200),
        ("GET http://y/a HTTP/1.1\r\nHost: x", 200),
        ("GET http://u@y/a HTTP/1.1\r\nHost: x", 400),
        ("HEAD /a HTTP/1.1\r\nHost: x", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: x", 204),
        ("OPTIONS /a HTTP/1.1\r\nHost: x", 405),
        ("TRACE /a HTTP/1.1\r\nHost: x", 405),
        ("CONNECT x:80 HTTP/1.1\r\nHost: x", 405),
        ("BREW /a HTTP/1.1\r\nHost: x", 405),
        ("GET /a HTTP/1.1\r\nHost: x\r\na header without a colon", 400),
        ("GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2", 400),
        ("GET //a HTTP/1.1\r\nHost: x", 404),
        ("GET /b/../a HTTP/1.1\r\nHost: x", 404),
        ("GET /%zz HTTP/1.1\r\nHost: x", 400),
        ("POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", 501),
    ] {
        let answer = exchange(address, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
        let begin = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begin), "{head:?}: {answer}");
        assert!(answer.contains("x-request-id: "), "{head:?}: {answer}");
        if status >= 400 {
            assert!(answer.contains("application/problem+json"), "{head:?}: {answer}");
        }
        if status == 405 || status == 204 {
            assert!(answer.contains("\r\nallow: "), "{head:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn nothing_is_read_after_a_chunked_request() {
    let post = axum::routing::post(async |request: Request| {
        request.into_body().collect().await.map(|_| "it").map_err(|_| "broken")
    });
    let address = serve_rest(Router::new().route("/b", post)).await;
    // Whoever believes the length reads another request inside the body.
    for lengths in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
    ] {
        let head = format!("POST /b HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n");
        let two = format!("{head}0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = exchange(address, &two).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths:?}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
