//! The list of accounts, and one account with what hangs on it.

use chrono::{DateTime, Utc};
use service_kit::json::fault;
use sql_kit::read;

use super::page_token::{PageKey, Place};
use crate::{
    domain::AccountKey,
    error::Error,
    field_code,
    service::Service,
    store::{
        AccountRecord, SessionRecord,
        account_list::{self, Created},
        accounts,
        attempts::{self, NetworkRecord},
        revocations, sessions,
    },
};

/// How many accounts a page has where the caller says nothing.
pub const PAGE_DEFAULT: u32 = 50;
/// How many it has at most; more is read as this.
pub const PAGE_MAX: u32 = 200;

/// Which accounts are listed. Each has an index of its own; they cannot be combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountFilter {
    /// All, in the order of creation, then id.
    All,
    /// Those that are disabled, in the same order.
    Disabled,
    /// Those whose email begins so, in lower case, in the order of their emails.
    EmailPrefix(String),
}

impl AccountFilter {
    /// Reads a filter; an empty prefix is none.
    ///
    /// # Errors
    ///
    /// Where both are given, or the prefix is none of an email.
    pub fn parse(email_prefix: &str, disabled: bool) -> Result<Self, Error> {
        let refused =
            |code, rule: &'static str| Err(Error::Invalid(vec![fault("email_prefix", code, rule)]));
        if email_prefix.is_empty() {
            return Ok(if disabled { Self::Disabled } else { Self::All });
        }
        if disabled {
            return refused(field_code::FILTERS_EXCLUDE, "cannot be given together with disabled");
        }
        if email_prefix.len() > 254 || !email_prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused(field_code::INVALID_EMAIL, "must be the beginning of an email address");
        }
        Ok(Self::EmailPrefix(email_prefix.to_ascii_lowercase()))
    }
}

/// Some accounts of a list.
#[derive(Debug)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<AccountRecord>,
    /// What the next page is asked for with; empty at the end.
    pub next_page_token: String,
}

/// An account with what hangs on it.
#[derive(Debug)]
pub struct AccountDetails {
    /// The account.
    pub account: AccountRecord,
    /// Its sessions, the one that was used last first.
    pub sessions: Vec<SessionRecord>,
    /// The networks from which a login has succeeded in the last 30 days, the latest first.
    pub networks: Vec<NetworkRecord>,
    /// The failed logins that count now; nothing where the key under which they are kept is not known.
    pub failures: Option<Vec<FailedLogins>>,
}

/// Failed logins that count now.
#[derive(Debug, Clone)]
pub struct FailedLogins {
    /// From which network; from all of them together where there is none.
    pub network: Option<String>,
    /// How many.
    pub failures: u32,
    /// Until when they count.
    pub until: DateTime<Utc>,
    /// How many are allowed; 0: any number.
    limit: u32,
}

impl FailedLogins {
    /// Whether logins are refused because of them.
    #[must_use]
    pub const fn are_too_many(&self) -> bool {
        self.limit > 0 && self.failures >= self.limit
    }
}

/// Reads the size of a page: 0 is the default, and more than the most is the most.
///
/// # Errors
///
/// Where it is negative.
pub fn page_size(size: i64) -> Result<u32, Error> {
    match u32::try_from(size.min(PAGE_MAX.into())) {
        Ok(0) => Ok(PAGE_DEFAULT),
        Ok(size) => Ok(size),
        Err(_) => {
            let rule = "must be a whole number, 0 or more";
            Err(Error::Invalid(vec![fault("page_size", field_code::INVALID_PAGE_SIZE, rule)]))
        }
    }
}

impl Service {
    /// A page of the accounts. Its cost does not grow with its depth, and accounts that are added or
    /// deleted meanwhile neither skip nor repeat another.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPageToken`], or the database.
    pub async fn list_accounts(
        &self,
        filter: &AccountFilter,
        size: u32,
        page_token: &str,
    ) -> Result<AccountPage, Error> {
        self.ready()?;
        let page = read!(self.store, |unit| {
            let key = PageKey::of(&revocations::installation(unit).await?);
            let place = match page_token {
                "" => None,
                token => match key.open(filter, token) {
                    Some(place) => Some(place),
                    None => return Ok(Err(Error::InvalidPageToken)),
                },
            };
            // One more than asked for tells whether there are more.
            let most = size.saturating_add(1);
            let (created, email) = match &place {
                Some(Place::Created(created)) => (Some(*created), None),
                Some(Place::Email(email)) => (None, Some(email.as_str())),
                None => (None, None),
            };
            let mut found = match filter {
                AccountFilter::All => account_list::by_creation(unit, created, most).await?,
                AccountFilter::Disabled => account_list::disabled(unit, created, most).await?,
                AccountFilter::EmailPrefix(prefix) => {
                    account_list::by_email_prefix(unit, prefix, email, most).await?
                }
            };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let has_more = found.len() > size;
            found.truncate(size);
            let next = found.last().filter(|_| has_more).map(|last| match filter {
                AccountFilter::EmailPrefix(_) => Place::Email(last.email.as_str().to_owned()),
                _ => Place::Created(Created { at: last.created_at, id: last.id }),
            });
            let next_page_token = next.map(|place| key.seal(filter, &place)).unwrap_or_default();
            Ok(Ok(AccountPage { accounts: found, next_page_token }))
        });
        page.await?
    }

    /// An account with its sessions and what is counted against it.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], or the database.
    pub async fn account_details(&self, key: &AccountKey) -> Result<AccountDetails, Error> {
        self.ready()?;
        let now = self.store.now();
        let found = read!(self.store, |unit| {
            let Some(account) = accounts::by_key(unit, key).await? else {
                return Ok(None);
            };
            let sessions = sessions::of_account(unit, account.id, now).await?;
            let (mut networks, mut failures) = (Vec::new(), None);
            if let Ok(subject) = self.throttle.subject(account.email.as_str()) {
                networks = attempts::networks(unit, &subject, now).await?;
                failures = Some(attempts::failures(unit, &subject, now).await?);
            }
            Ok(Some((account, sessions, networks, failures)))
        });
        let (account, sessions, networks, failures) = found.await?.ok_or(Error::AccountNotFound)?;
        let limits = self.limits.failures;
        let failures = failures.map(|records| {
            let failed = records.into_iter().map(|record| FailedLogins {
                limit: match record.network {
                    Some(_) => limits.per_pair,
                    None => limits.per_account,
                },
                network: record.network,
                failures: record.failures,
                until: record.until,
            });
            failed.collect()
        });
        Ok(AccountDetails { account, sessions, networks, failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_one_at_a_time() {
        assert_eq!(AccountFilter::parse("", false).unwrap(), AccountFilter::All);
        assert_eq!(AccountFilter::parse("", true).unwrap(), AccountFilter::Disabled);
        let prefix = AccountFilter::EmailPrefix("ja".to_owned());
        assert_eq!(AccountFilter::parse("Ja", false).unwrap(), prefix);
        for (text, disabled) in [("a", true), ("a b", false), ("\u{e9}", false), ("\0", false)] {
            assert!(AccountFilter::parse(text, disabled).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_page_size_has_a_default_and_a_limit() {
        for (asked, size) in [(0, 50), (1, 1), (200, 200), (201, 200), (i64::MAX, 200)] {
            assert_eq!(page_size(asked).unwrap(), size);
        }
        assert!(page_size(-1).is_err());
    }
}
