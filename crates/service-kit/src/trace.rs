//! OpenTelemetry spans: one for each request, with child spans for its slow operations. If no traces
//! are exported, there are no spans.

use std::time::SystemTime;

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{
        SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, TraceState, Tracer as _,
    },
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::{
    catalogue::grpc_name,
    clock::machine_time,
    context::{RequestContext, TRACESTATE, Traceparent},
    otlp::Otlp,
};

/// The traces of one service. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<SdkTracer>);

impl Traces {
    /// The traces that `otlp` exports.
    #[must_use]
    pub fn new(otlp: &Otlp) -> Self {
        Self(otlp.tracer())
    }

    /// Starts the span of a request as part of the caller's trace, and stores its ids in `request`.
    pub(crate) fn begin(
        &self,
        request: &mut RequestContext,
        headers: &HeaderMap,
        start: impl FnOnce() -> SpanStart,
    ) -> RequestSpan {
        let Some(tracer) = &self.0 else {
            return RequestSpan(None);
        };
        let parent = match request.parent {
            Some(parent) => remote(&request.trace_id, parent, request.flags, trace_state(headers)),
            None => Context::new(),
        };
        let SpanStart { name, attributes } = start();
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_start_time(SystemTime::from(machine_time()))
            .with_attributes(attributes);
        let span = tracer.build_with_context(builder, &parent);
        let context = Context::new().with_value(self.clone()).with_span(span);
        let own = context.span().span_context().clone();
        request.trace_id = own.trace_id().to_string();
        request.span_id = u64::from_be_bytes(own.span_id().to_bytes());
        request.flags = own.trace_flags().to_u8();
        RequestSpan(Some(context))
    }
}

impl Traces {
    /// Starts the span of a call to another service, as part of the trace of `traceparent`. For work
    /// that continues after its request.
    #[must_use]
    pub fn call(&self, name: &'static str, traceparent: &str) -> Call {
        let parent = Traceparent::parse(traceparent);
        let span = self.0.as_ref().map(|tracer| {
            let parent = parent.as_ref().map_or_else(Context::new, |parent| {
                remote(parent.trace_id, parent.parent, parent.flags, TraceState::NONE)
            });
            let builder =
                SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes([
                    KeyValue::new("rpc.system.name", "grpc"),
                    KeyValue::new("rpc.method", name),
                ]);
            Context::new().with_span(tracer.build_with_context(builder, &parent))
        });
        Call { span: Child(span), traceparent: traceparent.to_owned() }
    }
}

/// A call to another service.
#[derive(Debug)]
pub struct Call {
    span: Child,
    traceparent: String,
}

impl Call {
    /// The `traceparent` to send: that of the call's own span, or else the one that was passed in.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let Some(context) = &self.span.0 else {
            return self.traceparent.clone();
        };
        let span = context.span().span_context().clone();
        let flags = span.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
    }

    /// Marks the call as failed with this gRPC status.
    pub fn fail(&self, status: tonic::Code) {
        self.span.set("rpc.response.status_code", grpc_name(status));
        self.span.fail();
    }
}

fn remote(trace_id: &str, parent: u64, flags: u8, state: TraceState) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_hex(trace_id).unwrap_or(TraceId::INVALID),
        SpanId::from_bytes(parent.to_be_bytes()),
        TraceFlags::new(flags),
        true,
        state,
    ))
}

/// The initial data of a span. Attributes have the names of OpenTelemetry's semantic conventions.
pub(crate) struct SpanStart {
    pub(crate) name: String,
    pub(crate) attributes: Vec<KeyValue>,
}

/// The trace data of other vendors. Malformed data is dropped (W3C Trace Context, section 3.3).
fn trace_state(headers: &HeaderMap) -> TraceState {
    let lines: Vec<_> =
        headers.get_all(TRACESTATE).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",").parse().unwrap_or_default()
}

/// The span of a request, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct RequestSpan(Option<Context>);

impl RequestSpan {
    /// The context in which the request is processed.
    pub(crate) fn context(&self) -> Option<Context> {
        self.0.clone()
    }

    /// Ends the span. `failed` means that the service failed.
    pub(crate) fn end(self, attributes: impl FnOnce() -> Vec<KeyValue>, failed: bool) {
        if let Some(context) = self.0 {
            let span = context.span();
            span.set_attributes(attributes());
            if failed {
                span.set_status(Status::error(""));
            }
            span.end();
        }
    }
}

/// A child span of the present request. It ends when it is dropped.
#[derive(Debug)]
pub struct Child(Option<Context>);

/// Starts a child span for a slow operation. Does nothing outside of a traced request.
#[must_use]
pub fn child(name: &'static str, kind: SpanKind) -> Child {
    let present = Context::current();
    if !present.span().is_recording() {
        return Child(None);
    }
    let tracer = present.get::<Traces>().and_then(|traces| traces.0.as_ref());
    Child(tracer.map(|tracer| {
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        present.with_span(tracer.build_with_context(builder, &present))
    }))
}

impl Child {
    /// Adds an attribute.
    pub fn set(&self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Marks the operation as failed.
    pub fn fail(&self) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}
