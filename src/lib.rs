//! The gRPC contracts of Latchkey: messages, clients (feature `client`), servers (feature
//! `server`) and the descriptor sets that server reflection serves. Generated from `proto/`
//! at build time; there is no logic here.

/// The package `auth.v1`: accounts and access tokens.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/auth.v1.rs"));

        /// The `FileDescriptorSet` of the package and of what it imports.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/auth_v1.bin"));
    }
}

/// The package `user.v1`: profiles.
pub mod user {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/user.v1.rs"));

        /// The `FileDescriptorSet` of the package and of what it imports.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/user_v1.bin"));
    }
}
