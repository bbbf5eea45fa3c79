//! The list of accounts, and the details of one account.

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

/// How many accounts a page has if the caller does not say.
pub const PAGE_DEFAULT: u32 = 50;
/// The most accounts that a page can have. Larger sizes are reduced to this.
pub const PAGE_MAX: u32 = 200;

/// Which accounts are listed. Each filter uses an index of its own, so filters cannot be combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountFilter {
    /// All accounts, by creation time, then id.
    All,
    /// The disabled accounts, in the same order.
    Disabled,
    /// The accounts whose email begins with this text, in lower case, sorted by email.
    EmailPrefix(String),
}

impl AccountFilter {
    /// Parses a filter. An empty prefix counts as absent.
    ///
    /// # Errors
    ///
    /// If both are given, or if no email can begin with the prefix.
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

/// One page of the list.
#[derive(Debug)]
pub struct AccountPage {
    /// The accounts.
    pub accounts: Vec<AccountRecord>,
    /// The token of the next page; empty on the last page.
    pub next_page_token: String,
}

/// An account and the data that belongs to it.
#[derive(Debug)]
pub struct AccountDetails {
    /// The account.
    pub account: AccountRecord,
    /// Its sessions, the most recently used one first.
    pub sessions: Vec<SessionRecord>,
    /// The networks of successful logins in the last 30 days, the latest first.
    pub networks: Vec<NetworkRecord>,
    /// The failed logins that count at present; `None` if the key under which they are stored is
    /// unknown.
    pub failures: Option<Vec<FailedLogins>>,
}

/// Failed logins that count at present.
#[derive(Debug, Clone)]
pub struct FailedLogins {
    /// The network that they came from; `None` for the sum over all networks.
    pub network: Option<String>,
    /// Their number.
    pub failures: u32,
    /// When they stop counting.
    pub until: DateTime<Utc>,
    /// The limit; 0 means no limit.
    limit: u32,
}

impl FailedLogins {
    /// Whether the limit is reached, so that logins are refused.
    #[must_use]
    pub const fn are_too_many(&self) -> bool {
        self.limit > 0 && self.failures >= self.limit
    }
}

/// Parses a page size: 0 means the default, and anything above the maximum means the maximum.
///
/// # Errors
///
/// If it is negative.
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
    /// One page of accounts. Its cost does not depend on its position, and accounts that are added or
    /// deleted between two pages do not cause others to be skipped or repeated.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPageToken`], and the errors of the database.
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
            // Fetches one more than requested, to know whether there is another page.
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

    /// An account with its sessions and its failed logins.
    ///
    /// # Errors
    ///
    /// [`Error::AccountNotFound`], and the errors of the database.
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
