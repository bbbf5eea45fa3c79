//! Compiles `proto/` with protox, so that nobody needs to install `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

#[expect(clippy::disallowed_methods, reason = "a build script has no other settings")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let client = env::var_os("CARGO_FEATURE_CLIENT").is_some();
    let server = env::var_os("CARGO_FEATURE_SERVER").is_some();

    let packages: [(&str, &[&str]); 2] = [
        (
            "auth_v1",
            &[
                "auth/v1/account.proto",
                "auth/v1/event.proto",
                "auth/v1/account_service.proto",
                "auth/v1/admin_service.proto",
                "auth/v1/credential_service.proto",
                "auth/v1/auth_service.proto",
                "auth/v1/session_service.proto",
            ],
        ),
        ("user_v1", &["user/v1/user.proto", "user/v1/user_service.proto"]),
    ];
    for (name, files) in packages {
        let descriptors = protox::compile(files, ["proto"])?;
        fs::write(out_dir.join(format!("{name}.bin")), descriptors.encode_to_vec())?;
        tonic_prost_build::configure()
            .build_client(client)
            .build_server(server)
            .build_transport(false)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
