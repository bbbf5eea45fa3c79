//! Server reflection (grpc.reflection.v1 and v1alpha). The service in tonic-reflection ends the
//! stream at the first unknown name, although the protocol has an error response for that. So this is
//! a separate implementation that uses that crate's messages.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use http::{Request, Uri};
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use tonic::{Code, Response, Status, Streaming, body::Body, server::NamedService};
use tonic_reflection::{
    pb::v1::{
        ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
        ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    server::v1::{ServerReflection, ServerReflectionServer},
};
use tower::Service;

/// Adds server reflection, v1 and v1alpha, for the services in `descriptors` (an encoded
/// `FileDescriptorSet`), health and reflection itself.
///
/// # Errors
///
/// If `descriptors` cannot be decoded.
pub fn add_reflection(
    routes: &mut tonic::service::RoutesBuilder,
    descriptors: &[u8],
) -> Result<(), prost::DecodeError> {
    let mut index = Index::default();
    for set in [
        descriptors,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        // With these, grpcurl can show the details of errors.
        tonic_types::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        index.add(set)?;
    }
    let v1 = ServerReflectionServer::new(Reflection(Arc::new(index)));
    routes.add_service(V1Alpha(v1.clone()));
    routes.add_service(v1);
    Ok(())
}

/// The descriptor files, by file name and by the names that they declare.
#[derive(Debug, Default)]
struct Index {
    files: HashMap<String, Vec<u8>>,
    /// Maps each full name to the file that declares it.
    symbols: HashMap<String, String>,
    messages: BTreeSet<String>,
    services: BTreeSet<String>,
}

impl Index {
    fn add(&mut self, encoded: &[u8]) -> Result<(), prost::DecodeError> {
        for file in FileDescriptorSet::decode(encoded)?.file {
            let (name, package) = (file.name().to_owned(), file.package().to_owned());
            if self.files.contains_key(&name) {
                continue;
            }
            for message in &file.message_type {
                self.message(&name, &package, message);
            }
            for kind in &file.enum_type {
                self.enumeration(&name, &package, kind);
            }
            for extension in &file.extension {
                self.declare(&name, &package, extension.name());
            }
            for service in &file.service {
                let service_name = self.declare(&name, &package, service.name());
                for method in &service.method {
                    self.declare(&name, &service_name, method.name());
                }
                self.services.insert(service_name);
            }
            self.files.insert(name, file.encode_to_vec());
        }
        Ok(())
    }

    fn declare(&mut self, file: &str, scope: &str, name: &str) -> String {
        let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        self.symbols.insert(full.clone(), file.to_owned());
        full
    }

    fn message(&mut self, file: &str, scope: &str, message: &DescriptorProto) {
        let name = self.declare(file, scope, message.name());
        for nested in &message.nested_type {
            self.message(file, &name, nested);
        }
        for kind in &message.enum_type {
            self.enumeration(file, &name, kind);
        }
        for field in message.field.iter().chain(&message.extension) {
            self.declare(file, &name, field.name());
        }
        for oneof in &message.oneof_decl {
            self.declare(file, &name, oneof.name());
        }
        self.messages.insert(name);
    }

    fn enumeration(&mut self, file: &str, scope: &str, kind: &EnumDescriptorProto) {
        let name = self.declare(file, scope, kind.name());
        for value in &kind.value {
            // Enum values are declared in the scope of their enum, because that is where all clients
            // look them up.
            self.declare(file, &name, value.name());
        }
    }

    fn file(&self, name: &str) -> Option<MessageResponse> {
        let file = self.files.get(name)?.clone();
        Some(MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto: vec![file],
        }))
    }

    fn answer(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let found = match &request.message_request {
            None => Err((Code::InvalidArgument, "the request asks for nothing".to_owned())),
            Some(MessageRequest::FileByFilename(name)) => {
                self.file(name).ok_or_else(|| (Code::NotFound, format!("no file {name}")))
            }
            Some(MessageRequest::FileContainingSymbol(symbol)) => self
                .symbols
                .get(symbol)
                .and_then(|file| self.file(file))
                .ok_or_else(|| (Code::NotFound, format!("no symbol {symbol}"))),
            Some(MessageRequest::FileContainingExtension(extension)) => {
                let kind = &extension.containing_type;
                Err((Code::NotFound, format!("{kind} has no such extension")))
            }
            Some(MessageRequest::AllExtensionNumbersOfType(kind)) => {
                if self.messages.contains(kind) {
                    Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                        base_type_name: kind.clone(),
                        extension_number: Vec::new(),
                    }))
                } else {
                    Err((Code::NotFound, format!("no message {kind}")))
                }
            }
            Some(MessageRequest::ListServices(_)) => {
                let named = |name: &String| ServiceResponse { name: name.clone() };
                let service = self.services.iter().map(named).collect();
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
            }
        };
        let response = found.unwrap_or_else(|(code, error_message)| {
            let error_code = code as i32;
            MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(response),
        }
    }
}

#[derive(Debug)]
struct Reflection(Arc<Index>);

#[tonic::async_trait]
impl ServerReflection for Reflection {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        request: tonic::Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |request| Ok(index.answer(request?)));
        Ok(Response::new(answers.boxed()))
    }
}

/// The same service under its former name. The messages of both versions are the same on the wire.
#[derive(Debug, Clone)]
struct V1Alpha<S>(S);

impl<S> NamedService for V1Alpha<S> {
    const NAME: &'static str = "grpc.reflection.v1alpha.ServerReflection";
}

impl<S> Service<Request<Body>> for V1Alpha<S>
where
    S: Service<Request<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        let path = request.uri().path().replace(".v1alpha.", ".v1.");
        if let Ok(uri) = path.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
        self.0.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: Option<MessageRequest>) -> MessageResponse {
        let mut index = Index::default();
        index.add(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
        let request = ServerReflectionRequest { host: "h".to_owned(), message_request: request };
        let answer = index.answer(request.clone());
        assert_eq!(answer.original_request, Some(request));
        answer.message_response.unwrap()
    }

    #[test]
    fn what_is_declared_is_found_and_what_is_not_is_an_error() {
        for symbol in [
            "grpc.health.v1.Health",
            "grpc.health.v1.Health.Check",
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
            "grpc.health.v1.HealthCheckRequest.service",
        ] {
            let found = ask(Some(MessageRequest::FileContainingSymbol(symbol.to_owned())));
            assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{symbol}");
        }
        let of_type = MessageRequest::AllExtensionNumbersOfType;
        let known = ask(Some(of_type("grpc.health.v1.HealthCheckRequest".to_owned())));
        assert!(matches!(known, MessageResponse::AllExtensionNumbersResponse(_)));
        for (request, code) in [
            (Some(MessageRequest::FileContainingSymbol("no.Such".to_owned())), Code::NotFound),
            (Some(MessageRequest::FileByFilename("no.proto".to_owned())), Code::NotFound),
            (Some(MessageRequest::FileContainingExtension(Default::default())), Code::NotFound),
            (Some(of_type("no.Such".to_owned())), Code::NotFound),
            (None, Code::InvalidArgument),
        ] {
            let MessageResponse::ErrorResponse(error) = ask(request.clone()) else {
                panic!("{request:?} was found");
            };
            assert_eq!(error.error_code, code as i32, "{request:?}");
        }
    }
}
