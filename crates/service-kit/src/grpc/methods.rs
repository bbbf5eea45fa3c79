//! The methods that exist on the gRPC edge.

use std::collections::HashSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// The paths of the methods (gRPC over HTTP/2, Requests).
#[derive(Debug)]
pub(super) struct Methods(HashSet<String>);

impl Methods {
    /// The methods of the services in `descriptors`, of health and of reflection.
    pub(super) fn of(descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        let mut paths = HashSet::new();
        for encoded in [
            descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            for file in FileDescriptorSet::decode(encoded)?.file {
                for service in &file.service {
                    let path = format!("/{}.{}", file.package(), service.name());
                    paths.extend(
                        service.method.iter().map(|method| format!("{path}/{}", method.name())),
                    );
                }
            }
        }
        Ok(Self(paths))
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains(path)
    }
}
