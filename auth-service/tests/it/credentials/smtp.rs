//! Mail by a real mail server (Mailpit) over STARTTLS with authentication, and by servers that misbehave.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use auth_service::config;
use serde_json::{Value, json};
use service_kit::settings::Setting;
use test_kit::{ENGINES, Engine, TestDatabase, pki::Pki};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::assert_refused;
use crate::support::{PASSWORD, Running};

/// The mail server, killed when dropped.
struct Mailpit {
    child: Child,
    smtp: u16,
    api: u16,
}

impl Drop for Mailpit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mailpit() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings")]
    let given = std::env::var_os("TEST_MAILPIT").map(PathBuf::from);
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/mailpit");
    let path = given.unwrap_or(built);
    assert!(
        path.exists(),
        "there is no {}: run scripts/test, which installs Mailpit",
        path.display()
    );
    path
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Mailpit {
    async fn start(folder: &Path, pki: &Pki) -> Self {
        std::fs::write(folder.join("users"), "mailer:p@ss/word").unwrap();
        let identity = pki.identity("mail");
        let (smtp, api) = (free_port().await, free_port().await);
        let child = Command::new(mailpit())
            .args(["--smtp", &format!("127.0.0.1:{smtp}"), "--listen", &format!("127.0.0.1:{api}")])
            .args(["--smtp-tls-cert", &identity.cert, "--smtp-tls-key", &identity.key])
            .arg("--smtp-require-starttls")
            .args(["--smtp-auth-file", folder.join("users").to_str().unwrap()])
            .args(["--enable-chaos", "--disable-version-check"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mailpit = Self { child, smtp, api };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", smtp)).await.is_ok()
                && TcpStream::connect(("127.0.0.1", api)).await.is_ok()
            {
                return mailpit;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Mailpit does not start");
    }

    fn url(&self, user_info: &str) -> String {
        format!("smtp://{user_info}@localhost:{}", self.smtp)
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.api);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// How often a recipient is answered 451, in percent.
    async fn refuse_recipients(&self, percent: u32) {
        let off = json!({"ErrorCode": 451, "Probability": 0});
        let chaos = json!({
            "Sender": off, "Authentication": off,
            "Recipient": {"ErrorCode": 451, "Probability": percent},
        });
        let url = format!("http://127.0.0.1:{}/api/v1/chaos", self.api);
        let answer = reqwest::Client::new().put(url).body(chaos.to_string()).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// Waits for a mail with this subject, and returns it.
    async fn mail(&self, subject: &str) -> Value {
        for _ in 0..600 {
            let list = self.get("messages").await;
            let found =
                list["messages"].as_array().unwrap().iter().find(|m| m["Subject"] == subject);
            if let Some(found) = found {
                return self.get(&format!("message/{}", found["ID"].as_str().unwrap())).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no mail: {}", self.get("messages").await);
    }
}

async fn start(engine: Engine, url: &str, more: &[(Setting, &str)]) -> Running {
    let mut all = vec![
        (config::SMTP_URL, url),
        (config::MAIL_FROM, "Example <no-reply@example.com>"),
        (config::PUBLIC_URL, "https://auth.example.com"),
    ];
    all.extend(more);
    Running::start_on(TestDatabase::create(engine).await, &all).await
}

async fn forgot(service: &Running) {
    let started = std::time::Instant::now();
    let answer = service.rest.post("/auth/password/forgot", &json!({"email": "a@b.com"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert!(started.elapsed() < Duration::from_secs(5), "a request waits for mail");
}

#[tokio::test]
async fn a_reset_comes_by_starttls_and_again_when_the_server_said_later() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path());
        let mailpit = Mailpit::start(folder.path(), &pki).await;
        let authority = pki.authority();
        let url = mailpit.url("mailer:p%40ss%2Fword");
        let service = start(engine, &url, &[(config::SMTP_CA_FILE, &authority)]).await;
        service.register("a@b.com").await;

        mailpit.refuse_recipients(100).await;
        forgot(&service).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(mailpit.get("messages").await["total"], 0);
        mailpit.refuse_recipients(0).await;
        let mail = mailpit.mail("Choose a new password").await;
        assert_eq!(mail["From"], json!({"Name": "Example", "Address": "no-reply@example.com"}));
        assert_eq!(mail["To"][0]["Address"], "a@b.com");
        for part in ["Text", "HTML"] {
            assert!(mail[part].as_str().unwrap().contains("https://auth.example.com/account/"));
        }
        let (_, token) = mail["Text"].as_str().unwrap().split_once("#token=").unwrap();
        let body = json!({"token": &token[..43], "new_password": "an other good one"});
        let reset = service.rest.post("/auth/password/reset", &body).await;
        assert_eq!(reset.status, 204, "{}", reset.text);
        mailpit.mail("Your password was set anew").await;
        // What was sent is gone.
        assert_eq!(mailpit.get("messages").await["total"], 2);
    }
}

/// None of these gets a mail, and none holds a request up.
#[tokio::test]
async fn a_server_that_is_not_the_one_or_does_not_take_the_password_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(folder.path());
    let mailpit = Mailpit::start(folder.path(), &pki).await;
    let authority = pki.authority();
    let other = tempfile::tempdir().unwrap();
    let others = Pki::new(other.path()).authority();
    let trusted = [(config::SMTP_CA_FILE, authority.as_str())];
    let untrusted = [(config::SMTP_CA_FILE, others.as_str())];
    let plain = format!("{}?tls=none", mailpit.url("mailer:p%40ss%2Fword"));
    for (url, authorities) in [
        (mailpit.url("mailer:p%40ss%2Fword"), &untrusted),
        (mailpit.url("mailer:wrong"), &trusted),
        (plain, &trusted),
    ] {
        let service = start(Engine::Sqlite, &url, authorities).await;
        service.register("a@b.com").await;
        forgot(&service).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(mailpit.get("messages").await["total"], 0, "{url}");
    }
}

/// How a scripted server ends its first conversation.
#[derive(Debug, Clone, Copy)]
enum Misdeed {
    Stall,
    DropAfterData,
    Refuse,
}

/// Speaks SMTP without TLS. The first mail meets the misdeed, later ones are taken. Returns each mail that
/// was sent whole.
async fn scripted(
    listener: TcpListener,
    misdeed: Misdeed,
    taken: tokio::sync::mpsc::Sender<String>,
) {
    let mut is_first = true;
    while let Ok((stream, _)) = listener.accept().await {
        let misdeed = std::mem::take(&mut is_first).then_some(misdeed);
        tokio::spawn(converse(stream, misdeed, taken.clone()));
    }
}

async fn converse(
    stream: TcpStream,
    misdeed: Option<Misdeed>,
    taken: tokio::sync::mpsc::Sender<String>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    if let Some(Misdeed::Stall) = misdeed {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    write.write_all(b"220 scripted\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let answer: &[u8] = match line.split(' ').next().unwrap_or_default() {
            "EHLO" => b"250 scripted\r\n",
            "RCPT" if matches!(misdeed, Some(Misdeed::Refuse)) => b"550 5.1.1 no\r\n",
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push('\n');
                }
                let _ = taken.send(mail).await;
                if matches!(misdeed, Some(Misdeed::DropAfterData)) {
                    return Ok(());
                }
                b"250 taken\r\n"
            }
            "QUIT" => return write.write_all(b"221 bye\r\n").await,
            _ => b"250 good\r\n",
        };
        write.write_all(answer).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_arrives_whatever_its_server_does_at_first() {
    for misdeed in [Misdeed::Stall, Misdeed::DropAfterData, Misdeed::Refuse] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://127.0.0.1:{}?tls=none", listener.local_addr().unwrap().port());
        let (sender, mut taken) = tokio::sync::mpsc::channel(10);
        tokio::spawn(scripted(listener, misdeed, sender));
        let service = start(Engine::Sqlite, &url, &[]).await;
        service.register("a@b.com").await;
        forgot(&service).await;
        // Others are not held up by a mail that is.
        let login = json!({"email": "a@b.com", "password": PASSWORD});
        assert_eq!(service.rest.post("/auth/login", &login).await.status, 200);
        let arrives = tokio::time::timeout(Duration::from_secs(60), taken.recv());
        let mail = arrives.await.unwrap_or_else(|_| panic!("{misdeed:?}")).unwrap();
        assert!(mail.contains("#token="), "{mail}");
        if let Misdeed::DropAfterData = misdeed {
            // Nobody knows whether it was taken: it comes once more, and can be told to be the same.
            let again = tokio::time::timeout(Duration::from_secs(60), taken.recv()).await.unwrap();
            let id = |mail: &str| {
                mail.lines().find(|line| line.starts_with("Message-ID")).map(str::to_owned)
            };
            assert_eq!(id(&again.unwrap()), id(&mail));
        }
        let body = json!({"token": "x", "new_password": "an other good one"});
        assert_refused(
            &service.rest.post("/auth/password/reset", &body).await,
            400,
            "invalid_link",
        );
    }
}
