use super::*;
use sqlx::postgres::PgSslMode;

/// Parses a URL with an empty environment.
fn parse(url: &str) -> Result<Servers, String> {
    read(url, |_| None)
}

fn addresses(url: &str) -> Vec<String> {
    parse(url).unwrap().iter().map(address).collect()
}

fn refusal(parameters: &str) -> String {
    parse(&format!("postgres://u:secret@h/db?{parameters}")).unwrap_err()
}

#[test]
fn a_url_may_name_several_hosts() {
    let url = "postgres://u:p@one:1,two:2,three/db?sslmode=prefer&target_session_attrs=primary";
    assert_eq!(addresses(url), ["one:1", "two:2", "three:5432"]);
    let servers = parse(url).unwrap();
    assert!(servers.iter().all(|server| server.get_username() == "u"));
    assert!(servers.iter().all(|server| database(server) == "db"));
    assert!(servers.must_write);
    assert_eq!(addresses("postgres://u@/db?host=one,two&port=5,6"), ["one:5", "two:6"]);
    assert_eq!(addresses("postgres://u@one,two/db?port=7"), ["one:7", "two:7"]);
}

#[test]
fn every_part_of_a_url_is_optional() {
    for url in
        ["postgresql://u:p@h:9/db", "postgres://u@h:9/db", "postgres://h:9/db?sslmode=disable"]
    {
        assert_eq!(addresses(url), ["h:9"], "{url}");
    }
    for url in
        ["postgres:///db?host=/run/x", "postgres://u:p@/db?host=/run/x", "postgres://%2Frun%2Fx/db"]
    {
        let server = &parse(url).unwrap()[0];
        assert_eq!(host(server), "/run/x", "{url}");
        assert!(is_local(server));
    }
    let given = &parse("postgres://?user=a&password=b&host=h&port=5&dbname=d").unwrap()[0];
    assert_eq!((given.get_username(), database(given), &*address(given)), ("a", "d", "h:5"));
    assert_eq!(parse("postgresql://").unwrap().len(), 1);
}

#[test]
fn without_a_user_it_is_the_one_that_the_process_runs_as() {
    let id = std::process::Command::new("id").arg("-un").output().unwrap();
    let own = String::from_utf8(id.stdout).unwrap();
    for url in ["postgres://h/db", "postgres:///db?host=/run", "postgres://"] {
        assert_eq!(parse(url).unwrap()[0].get_username(), own.trim(), "{url}");
    }
    assert_eq!(database(&parse("postgres://h").unwrap()[0]), own.trim());
    let environment = |name: &str| (name == "PGUSER").then(|| "other".to_owned());
    assert_eq!(read("postgres://h/db", environment).unwrap()[0].get_username(), "other");
    assert_eq!(read("postgres://u@h/db", environment).unwrap()[0].get_username(), "u");
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    assert_eq!(addresses("postgres://u@[::1]:9/db"), ["[::1]:9"]);
    assert_eq!(parse("postgres://u@[::1]:9/db").unwrap()[0].get_host(), "::1");
    assert_eq!(addresses("postgres://[::1],[fe80::2]:7?dbname=x"), ["[::1]:5432", "[fe80::2]:7"]);
    for url in ["postgres://[::1", "postgres://[]/db", "postgres://[::1]x/db"] {
        assert!(parse(url).is_err(), "{url}");
    }
}

#[test]
fn what_is_percent_encoded_is_decoded_and_nothing_else() {
    let servers = parse("postgres://a%40b:p+w%2F%23@h/d%20b?application_name=x+y").unwrap();
    assert_eq!((servers[0].get_username(), database(&servers[0])), ("a@b", "d b"));
    assert_eq!(servers[0].get_application_name(), Some("x+y"));
    // libpq does not support fragments.
    assert_eq!(database(&parse("postgres://u:p#w@h/d#b").unwrap()[0]), "d#b");
    for url in
        ["postgres://u:p%zz@h", "postgres://u:%0@h", "postgres://h/a%00b", "postgres://h/%ff"]
    {
        assert!(parse(url).unwrap_err().contains("percent-encoding"), "{url}");
    }
}

#[test]
fn what_is_not_known_or_cannot_be_honoured_is_refused_by_name() {
    for parameter in ["sslmod", "sslMode", "statement-cache-capacity", "passfile", "service"] {
        let error = refusal(&format!("{parameter}=secret"));
        assert!(error.contains("not known"), "{error}");
        assert!(parameter.contains('-') || error.contains(parameter), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for (parameter, value) in [
        ("channel_binding", "require"),
        ("require_auth", "scram-sha-256"),
        ("ssl_min_protocol_version", "TLSv1.3"),
        ("gssencmode", "require"),
        ("sslcrl", "x"),
        ("client_encoding", "LATIN1"),
        ("sslmode", "verify_full"),
        ("sslmode", "REQUIRE"),
        ("target_session_attrs", "standby"),
        ("connect_timeout", "soon"),
        ("port", "99999"),
        ("port", "0"),
        ("hostaddr", "a.name"),
    ] {
        let error = refusal(&format!("{parameter}={value}"));
        assert!(error.contains(parameter) && !error.contains("secret"), "{parameter}: {error}");
    }
    assert!(parse("postgres://u:a/b@h/db").is_err(), "a port that is none");
    assert!(parse("postgres://u:a@b@h/db").unwrap_err().contains("%40"));
    assert!(refusal("a").contains("without a value"));
    assert!(parse("postgres://h:1,2/db").is_ok());
    assert!(parse("postgres://a,b,c/db?port=1,2").is_err());
    for parameters in [
        "channel_binding=prefer&gssencmode=disable&ssl_min_protocol_version=TLSv1.2&sslsni=1",
        "connect_timeout=10&target_session_attrs=any&client_encoding=UTF8&options=-c%20x.y%3D1",
        "",
    ] {
        parse(&format!("postgres://u@h/db?{parameters}")).unwrap();
    }
    assert_eq!(
        parse("postgres://h?connect_timeout=3").unwrap().connect_timeout.unwrap().as_secs(),
        3
    );
    assert_eq!(parse("postgres://h?connect_timeout=0").unwrap().connect_timeout, None);
}

#[test]
fn certificates_are_looked_at_and_a_given_authority_is_checked_by() {
    let folder = std::env::temp_dir().join(format!("latchkey-url-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pki = test_kit::pki::Pki::new(&folder);
    let identity = pki.identity("client");
    let (root, empty) = (pki.authority(), folder.join("empty.pem").display().to_string());
    std::fs::write(&empty, "nothing").unwrap();
    let mode = |parameters: &str| {
        let servers = parse(&format!("postgres://u@h/db?{parameters}"));
        servers.map(|servers| servers[0].get_ssl_mode() as u8)
    };
    let is = |mode: PgSslMode| Ok(mode as u8);
    assert_eq!(mode(""), is(PgSslMode::Prefer));
    assert_eq!(mode("ssl=true"), is(PgSslMode::Require));
    assert_eq!(mode(&format!("sslmode=require&sslrootcert={root}")), is(PgSslMode::VerifyCa));
    assert_eq!(mode(&format!("sslmode=verify-full&sslrootcert={root}")), is(PgSslMode::VerifyFull));
    assert_eq!(mode("sslrootcert=system"), is(PgSslMode::VerifyFull));
    let own = format!("sslcert={}&sslkey={}", identity.cert, identity.key);
    assert_eq!(mode(&format!("sslmode=require&{own}")), is(PgSslMode::Require));
    for (parameters, named) in [
        ("sslmode=verify-full&sslrootcert=/nope.pem".to_owned(), "/nope.pem"),
        (format!("sslmode=verify-ca&sslrootcert={empty}"), "sslrootcert"),
        (format!("sslrootcert={root}"), "sslmode"),
        ("sslmode=require&sslrootcert=system".to_owned(), "verify-full"),
        ("sslmode=require&sslcert=/nope.pem".to_owned(), "sslkey"),
        (format!("sslmode=require&sslcert=/nope.pem&sslkey={}", identity.key), "/nope.pem"),
        (format!("sslmode=require&sslcert={}&sslkey={empty}", identity.cert), "sslkey"),
    ] {
        let error = mode(&parameters).unwrap_err();
        assert!(error.contains(named), "{parameters}: {error}");
    }
    // Unix sockets do not use TLS, as with libpq.
    let socket = parse("postgres://u@/db?host=/run&sslmode=verify-full").unwrap();
    assert_eq!(socket[0].get_ssl_mode() as u8, PgSslMode::Disable as u8);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_environment_says_what_the_url_leaves_open() {
    let environment = |name: &str| match name {
        "PGHOST" => Some("other".to_owned()),
        "PGPORT" => Some("7".to_owned()),
        "PGSSLMODE" => Some("require".to_owned()),
        _ => None,
    };
    let servers = read("postgres://u@/db", environment).unwrap();
    assert_eq!(address(&servers[0]), "other:7");
    assert_eq!(servers[0].get_ssl_mode() as u8, PgSslMode::Require as u8);
    let servers = read("postgres://u@h:5/db?sslmode=disable", environment).unwrap();
    assert_eq!(address(&servers[0]), "h:5");
    let typo = |name: &str| (name == "PGSSLMODE").then(|| "verify-ful".to_owned());
    assert!(read("postgres://u@h/db", typo).unwrap_err().contains("sslmode"));
}
