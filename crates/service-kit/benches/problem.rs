//! What an error costs: from an `ApiError` to the problem document, by way of all that the REST edge
//! does with a request, and to a gRPC status.

#![expect(clippy::unwrap_used, reason = "a measurement")]

use axum::{Router, body::Body, body::to_bytes, routing::get};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::Request;
use service_kit::{
    catalogue::Catalogue,
    edge::Edge,
    error::{ApiError, Fault},
    field_code,
    metrics::Metrics,
    rest,
    trace::Traces,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

fn refusal() -> ApiError {
    let fault = |pointer: &str| Fault {
        pointer: pointer.to_owned(),
        code: field_code::REQUIRED,
        detail: "must be given".into(),
    };
    ApiError::validation(["/email", "/password", "/name"].map(fault).into())
}

fn problem(criterion: &mut Criterion) {
    let edge = Edge {
        service: "bench",
        metrics: Metrics::default(),
        traces: Traces::default(),
        trusted_proxies: Default::default(),
        allowed_origins: Vec::new(),
        tls: false,
        draining: CancellationToken::new(),
    };
    let routes = Router::new().route("/", get(|| async { refusal() }));
    let router = rest::finish(&edge, Catalogue::NONE, routes);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let request = || Request::get("/").header("host", "localhost").body(Body::empty()).unwrap();

    let mut group = criterion.benchmark_group("problem");
    group.bench_function("rest", |bencher| {
        bencher.iter_batched(
            || (router.clone(), request()),
            |(router, request)| {
                runtime.block_on(async {
                    let answer = router.oneshot(request).await.unwrap();
                    to_bytes(answer.into_body(), usize::MAX).await.unwrap()
                })
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("grpc", |bencher| {
        bencher.iter_batched(refusal, tonic::Status::from, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, problem);
criterion_main!(benches);
