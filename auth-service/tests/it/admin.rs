//! `auth.v1.AdminService` as a back office calls it, on both engines.

use auth_service::config::{self, Settings};
use latchkey_contracts::auth::v1::{
    CreateAccountRequest, DeleteAccountRequest, DisableAccountRequest, EnableAccountRequest,
    EndAccountSessionsRequest, GetAccountRequest, IntrospectTokenRequest, ListAccountsRequest,
    ListEventsRequest, RemoveAccountRequest, SendPasswordResetRequest, UnlockAccountRequest,
    account_service_client::AccountServiceClient, admin_service_client::AdminServiceClient,
    auth_service_client::AuthServiceClient,
};
use serde_json::json;
use test_kit::{ENGINES, Engine, channel};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};
use tonic_types::StatusExt as _;

use crate::events::{all, connect};
use crate::support::{ADMIN_TOKEN, PASSWORD, Running, SERVICE_TOKEN, settings};

const EMAIL: &str = "a@b.com";

async fn client(service: &Running) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel(service.grpc).await)
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn ask<T>(message: T) -> Request<T> {
    with(message, ADMIN_TOKEN)
}

#[track_caller]
fn assert_refused(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status}");
}

#[tokio::test]
async fn a_back_office_does_what_the_commands_do() {
    for engine in ENGINES {
        let limit = (config::LOGIN_FAILURES_PER_PAIR, "2");
        let service = Running::start_with(engine, &[limit]).await;
        let mut admin = client(&service).await;
        let id = service.register(EMAIL).await;
        let account = || EMAIL.to_owned();
        let login = async || {
            let body = json!({"email": EMAIL, "password": PASSWORD, "offline_access": true});
            service.rest.post("/auth/login", &body).await
        };
        assert_eq!(login().await.status, 200);

        let shown = admin.get_account(ask(GetAccountRequest { account: account() })).await;
        let shown = shown.unwrap().into_inner();
        assert_eq!(shown.account.as_ref().unwrap().id, id);
        assert_eq!((shown.sessions.len(), shown.networks.len(), shown.failures.len()), (1, 1, 0));

        let request = EndAccountSessionsRequest { account: id.clone() };
        admin.end_account_sessions(ask(request)).await.unwrap();
        let request = DisableAccountRequest { account: account() };
        let disabled = admin.disable_account(ask(request)).await.unwrap().into_inner();
        assert!(disabled.account.unwrap().disabled);
        for _ in 0..2 {
            assert_eq!(login().await.status, 401);
        }
        assert_eq!(login().await.status, 429);
        let request = EnableAccountRequest { account: account() };
        let enabled = admin.enable_account(ask(request)).await.unwrap().into_inner();
        assert!(!enabled.account.unwrap().disabled);
        let shown = admin.get_account(ask(GetAccountRequest { account: account() })).await;
        let shown = shown.unwrap().into_inner();
        assert!(shown.failures.iter().any(|failures| failures.locked), "{shown:?}");
        assert!(shown.sessions.is_empty());
        admin.unlock_account(ask(UnlockAccountRequest { account: account() })).await.unwrap();
        assert_eq!(login().await.status, 200);

        let request = CreateAccountRequest { email: "C@b.com".to_owned(), ..Default::default() };
        let created = admin.create_account(ask(request)).await.unwrap().into_inner();
        assert!(!created.link_sent, "mail is off");
        let other = created.account.unwrap();
        assert_eq!((other.email.as_str(), other.password_scheme.as_str()), ("c@b.com", ""));
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListAccountsRequest { page_size: 1, page_token, ..Default::default() };
            let page = admin.list_accounts(ask(request)).await.unwrap().into_inner();
            listed.extend(page.accounts.into_iter().map(|account| account.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, [id.clone(), other.id.clone()]);
        let acts = all(&connect(&service.database)).await;
        let acts: Vec<_> = acts.iter().filter(|event| event.actor == "admin").collect();
        let names: Vec<_> = acts.iter().map(|event| event.name.as_str()).collect();
        let expected = [
            "session.all_ended",
            "account.disabled",
            "account.enabled",
            "account.unlocked",
            "account.created",
        ];
        assert_eq!(names, expected, "{engine:?}");
        assert!(acts.iter().all(
            |event| event.network.as_deref() == Some("127.0.0.1") && event.request_id.is_some()
        ));
        for account in [account(), other.id] {
            admin.remove_account(ask(RemoveAccountRequest { account })).await.unwrap();
        }
        let page = admin.list_accounts(ask(ListAccountsRequest::default())).await.unwrap();
        assert!(page.into_inner().accounts.is_empty());
        assert_eq!(login().await.status, 401);
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_by_its_code() {
    let service = Running::start(Engine::Sqlite).await;
    let mut admin = client(&service).await;
    service.register(EMAIL).await;
    let email = || EMAIL.to_owned();
    let request = CreateAccountRequest { email: email(), ..Default::default() };
    let refused = admin.create_account(ask(request)).await.unwrap_err();
    assert_refused(&refused, Code::AlreadyExists, "email_already_registered");
    let hash = |text: &str| CreateAccountRequest {
        email: "c@b.com".to_owned(),
        password_hash: text.to_owned(),
        ..Default::default()
    };
    for text in ["a password", "!", "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"]
    {
        let refused = admin.create_account(ask(hash(text))).await.unwrap_err();
        assert_refused(&refused, Code::InvalidArgument, "validation_failed");
        assert!(text.len() == 1 || !format!("{refused:?}").contains(text), "{refused:?}");
    }
    for (account, code, reason) in [
        ("c@b.com", Code::NotFound, "account_not_found"),
        ("0198c5a0-0000-7000-8000-000000000001", Code::NotFound, "account_not_found"),
        ("nobody", Code::InvalidArgument, "validation_failed"),
        ("", Code::InvalidArgument, "validation_failed"),
    ] {
        let account = account.to_owned();
        let refused = admin.get_account(ask(GetAccountRequest { account: account.clone() })).await;
        assert_refused(&refused.unwrap_err(), code, reason);
        let refused = admin.remove_account(ask(RemoveAccountRequest { account })).await;
        assert_refused(&refused.unwrap_err(), code, reason);
    }
    let request = SendPasswordResetRequest { account: email() };
    let refused = admin.send_password_reset(ask(request)).await.unwrap_err();
    assert_refused(&refused, Code::NotFound, "mail_disabled");
    let page = |page_size, page_token: &str| ListAccountsRequest {
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let refused = admin.list_accounts(ask(page(-1, ""))).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "validation_failed");
    let refused = admin.list_accounts(ask(page(0, "x"))).await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "invalid_page_token");
}

#[tokio::test]
async fn services_and_operators_are_told_apart() {
    let service = Running::start(Engine::Sqlite).await;
    service.register(EMAIL).await;
    let token = service.login(EMAIL).await;
    let mut admin = client(&service).await;
    for wrong in ["", "wrong", SERVICE_TOKEN, &ADMIN_TOKEN[1..], &token] {
        let refused = admin.list_accounts(with(ListAccountsRequest::default(), wrong)).await;
        assert_refused(&refused.unwrap_err(), Code::Unauthenticated, "unauthenticated");
    }
    let refused = admin.list_accounts(ListAccountsRequest::default()).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "unauthenticated");

    let mut auth = AuthServiceClient::new(channel(service.grpc).await);
    let refused = auth.introspect_token(ask(IntrospectTokenRequest { token })).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "unauthenticated");
    let mut accounts = AccountServiceClient::new(channel(service.grpc).await);
    let request = DeleteAccountRequest { id: "0198c5a0-0000-7000-8000-000000000001".to_owned() };
    let refused = accounts.delete_account(ask(request)).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "unauthenticated");
}

#[test]
fn an_admin_token_that_services_have_ends_the_start() {
    for (setting, name) in [
        (config::SERVICE_TOKEN, "SERVICE_TOKEN"),
        (config::SERVICE_TOKEN_PREVIOUS, "SERVICE_TOKEN_PREVIOUS"),
    ] {
        let mut source = settings("sqlite::memory:", &[(setting, ADMIN_TOKEN)]);
        let told = Settings::read(&mut source).unwrap_err().to_string();
        assert!(told.contains(&format!("ADMIN_TOKEN: must differ from {name}:")), "{told}");
        assert!(!told.contains(ADMIN_TOKEN), "{told}");
    }
    for (value, fault) in [("short", "is under 32 bytes"), (" ", "ADMIN_TOKEN")] {
        let mut source = settings("sqlite::memory:", &[(config::ADMIN_TOKEN, value)]);
        let told = Settings::read(&mut source).unwrap_err().to_string();
        assert!(told.contains(fault), "{told}");
    }
    let names = [(config::ADMIN_CERT_NAMES, "back-office")];
    let told = Settings::read(&mut settings("sqlite::memory:", &names)).unwrap_err().to_string();
    assert!(told.contains("ADMIN_CERT_NAMES: is only for mutual TLS"), "{told}");
}

#[tokio::test]
async fn a_back_office_reads_what_happened_page_by_page() {
    for engine in ENGINES {
        let service = Running::start(engine).await;
        let mut admin = client(&service).await;
        let id = service.register(EMAIL).await;
        service.register("other@b.com").await;
        service.login(EMAIL).await;
        let request = |account: &str, page_token: &str, page_size| {
            let (account, page_token) = (account.to_owned(), page_token.to_owned());
            ask(ListEventsRequest { account, page_size, page_token })
        };
        let first = admin.list_events(request("", "", 2)).await.unwrap().into_inner();
        assert_eq!((first.events.len(), first.more, first.behind), (2, true, false));
        let event = &first.events[0];
        assert_eq!((&*event.r#type, &event.account_id), ("account.registered", &id));
        assert_eq!((&*event.actor, &*event.network), ("anonymous", "127.0.0.1"));
        let verified = &event.data.as_ref().unwrap().fields["email_verified"].kind;
        assert_eq!(verified, &Some(prost_types::value::Kind::BoolValue(false)));
        assert!(event.occurred_at.is_some() && !event.request_id.is_empty());
        let rest = admin.list_events(request("", &first.next_page_token, 0)).await.unwrap();
        let rest = rest.into_inner();
        assert_eq!((&*rest.events[0].r#type, rest.more), ("login.new_network", false));
        // The end is a place, too, and so is each event.
        let end = admin.list_events(request("", &rest.next_page_token, 0)).await.unwrap();
        assert!(end.into_inner().events.is_empty());
        service.login("other@b.com").await;
        let later = admin.list_events(request("", &rest.next_page_token, 0)).await.unwrap();
        assert_eq!(later.into_inner().events.len(), 1);
        let after = admin.list_events(request("", &event.page_token, 0)).await.unwrap();
        assert_eq!(after.into_inner().events.len(), 3);
        for account in [EMAIL, &id] {
            let own = admin.list_events(request(account, "", 0)).await.unwrap().into_inner();
            assert_eq!(own.events.len(), 2, "{engine:?}");
        }

        let unknown = admin.list_events(request("nobody@b.com", "", 0)).await.unwrap_err();
        assert_refused(&unknown, Code::NotFound, "account_not_found");
        let unknown = admin.list_events(request("", "nonsense", 0)).await.unwrap_err();
        assert_refused(&unknown, Code::InvalidArgument, "invalid_page_token");
        let negative = admin.list_events(request("", "", -1)).await.unwrap_err();
        assert_refused(&negative, Code::InvalidArgument, "validation_failed");
    }
}
