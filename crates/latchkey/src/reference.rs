//! Generates `docs/configuration.md` and `docs/errors.md` from the tables that `--help` and error
//! responses use.

use service_kit::{
    catalogue::{self, Catalogue},
    settings::{Flag, HELP, reference},
};

use crate::{OWN_GROUPS, move_command, names};

const SERVICES: &[Catalogue] = &[auth_service::code::CATALOGUE, user_service::code::CATALOGUE];

fn document() -> String {
    format!(
        "# Configuration\n\n\
         Every setting is an environment variable and a flag. The flag has the same name in lower case with \
         hyphens: `BCRYPT_COST` is `--bcrypt-cost`. An empty variable counts as unset, except where the text \
         says otherwise. All faults are reported at once, by the variable's name, before the service listens. \
         The start-up log notes variables that look like a setting and are none. This page is made from the \
         code: `UPDATE_DOCS=1 cargo test -p latchkey reference`.\n\n{HELP}\n\n\
         ## Text files\n\n\
         The same rules hold for every text file: `.env`, secrets, lists and PEM. A file is UTF-8; a line that \
         is not is refused, with its number. A byte order mark, CR LF at the end of a line, and white space \
         around a secret or an entry of a list are allowed and ignored.\n\n\
         A line of `.env` is empty, a comment that begins with `#`, or `NAME=value` with or without `export` \
         before it. The value is taken as written: `$` and `\\` have no special meaning. White space around it, \
         and one pair of quotes, are removed. A ` #` outside quotes, a name that is given twice, and any other \
         line are refused; the message has the number of the line and never its text.\n\n\
         ## auth-service\n{}\n## user-service\n{}\n## latchkey (`cargo run`)\n\n\
         Both services in one process take every setting of both. {}\n\n\
         These are made where they are not given: the databases, `KEY_ENCRYPTION_KEY` and `SERVICE_TOKEN` in \
         `DATA_DIR`, and the user service's `JWKS_URL`, `AUTH_GRPC_URL`, `JWT_ISSUER` and `JWT_AUDIENCE` from what the auth \
         service has. The subcommands of the services follow `auth` and `user` (`latchkey auth keys list`, \
         `latchkey user outbox list`); `latchkey migrate` and `latchkey healthcheck` are for both.\n{}",
        reference(Flag::of(auth_service::config::GROUPS)),
        reference(Flag::of(user_service::config::GROUPS)),
        names::HELP,
        reference(
            Flag::of(OWN_GROUPS).chain(names::separate()).chain(Flag::of(move_command::GROUPS))
        ),
    )
}

/// Compares a file of `docs/` with its generated content, or writes it with `UPDATE_DOCS=1`.
#[expect(clippy::disallowed_methods, reason = "not a setting of the program")]
fn check(file: &str, document: &str) {
    let path = format!("{}/../../docs/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, document, "docs/{file} is stale: run with UPDATE_DOCS=1");
}

#[test]
fn the_reference_of_the_settings_is_the_one_in_the_code() {
    check("configuration.md", &document());
}

#[test]
fn the_reference_of_the_errors_is_the_one_in_the_code() {
    check("errors.md", &catalogue::markdown(SERVICES));
}

/// Codes are unique over both services, so that a generated client can distinguish all of them.
#[test]
fn codes_are_unique_and_in_snake_case() {
    let codes = catalogue::codes(SERVICES).into_iter().map(|code| code.as_str());
    let fields = catalogue::field_codes(SERVICES).into_iter().map(|field| field.code);
    let mut seen = std::collections::BTreeSet::new();
    for code in codes.chain(fields) {
        assert!(seen.insert(code), "{code} twice");
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
    }
}
