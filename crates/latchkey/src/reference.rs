//! `docs/configuration.md` is made of the same tables as `--help`.

use service_kit::settings::{Flag, HELP, reference};

use crate::{OWN_GROUPS, move_command, names};

fn document() -> String {
    format!(
        "# Configuration\n\n\
         Every setting is an environment variable and a flag, the same in lower case with hyphens: \
         `BCRYPT_COST` is `--bcrypt-cost`. An empty value is no value, except where the text says what it \
         means. Faults are told all at once, by the variable's name, before the service listens. A variable \
         that is no setting but looks like one is noted in the start-up log. This page is made from the code: \
         `UPDATE_DOCS=1 cargo test -p latchkey reference`.\n\n{HELP}\n\n\
         ## Text files\n\n\
         Every text file is read by the same rules, whether it is `.env`, a secret, a list or PEM. It is UTF-8; \
         what is not is refused, with the number of the line. A byte order mark at its start is no part of it, \
         a line may end with CR LF, and white space around a secret or around an entry of a list is no part of \
         it.\n\n\
         A line of `.env` is empty, a comment that begins with `#`, or `NAME=value` with or without `export` \
         before it. The value is taken as written: neither `$` nor `\\` means anything in it. White space \
         around it and one pair of quotes around it are no part of it. A ` #` outside quotes, a name that is \
         given twice and any other line are refused, by the number of the line and never with its text.\n\n\
         ## auth-service\n{}\n## user-service\n{}\n## latchkey (`cargo run`)\n\n\
         Both services in one process take every setting of both. {}\n\n\
         What is not given is made: the databases, `KEY_ENCRYPTION_KEY` and `SERVICE_TOKEN` in `DATA_DIR`, and \
         the user service's `JWKS_URL`, `AUTH_GRPC_URL`, `JWT_ISSUER` and `JWT_AUDIENCE` from what the auth \
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
