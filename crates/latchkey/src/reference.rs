//! `docs/configuration.md` is made of the same tables as `--help`.

use service_kit::{runtime, settings::reference};

use crate::OWN_SETTINGS;

fn document() -> String {
    format!(
        "# Configuration\n\n\
         Every setting is an environment variable and a flag; a flag wins over the environment, and the \
         environment over a `.env` file in the working directory. An empty value is no value, except where \
         the text says what it means. Faults are told all at once, by the variable's name, before the service \
         listens. This page is made from the code: `UPDATE_DOCS=1 cargo test -p latchkey reference`.\n\n{}\n\n\
         ## auth-service\n\n{}\n## user-service\n\n{}\n## Both\n\n{}\n## cargo run\n\n\
         Both services in one process, with these settings of its own and all of the above but the addresses, \
         the databases and what one service needs to know of the other.\n\n{}",
        runtime::HELP,
        reference(auth_service::config::SETTINGS),
        reference(user_service::config::SETTINGS),
        reference(runtime::SETTINGS),
        reference(OWN_SETTINGS),
    )
}

#[test]
#[expect(clippy::disallowed_methods, reason = "not a setting of the program")]
fn the_reference_of_the_settings_is_the_one_in_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, document()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(written, document(), "docs/configuration.md is stale: run with UPDATE_DOCS=1");
}
