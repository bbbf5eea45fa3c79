//! The sources of the pages of the list.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use thiserror::Error;

use crate::fetch::{Access, FetchError, Fetcher, Limits, UrlError};
use crate::revocation::{RevocationError, RevocationPage};

/// The limits of a request. Connections are kept open, because the next request follows in about 2 s.
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(2),
    body_bytes: 4 * 1024 * 1024,
    idle: Some(Duration::from_secs(10)),
};

/// A list of revocations in the same process.
#[async_trait]
pub trait RevocationSource: Send + Sync + 'static {
    /// The page after a cursor, as in the response of `GET /.well-known/revocations?after=<cursor>`.
    /// Without a cursor, or with an unknown one, returns the first page of all current entries and
    /// sets `reset`.
    ///
    /// # Errors
    ///
    /// Why there is no page at present. The text is meant for the log.
    async fn page(
        &self,
        after: Option<&str>,
    ) -> Result<RevocationPage, Box<dyn std::error::Error + Send + Sync>>;
}

/// The URL of the list of revocations that belongs to a JWKS: the same URL with `revocations` as the
/// last path segment.
#[must_use]
pub fn revocations_beside(jwks_url: &str) -> String {
    let path = jwks_url.split(['?', '#']).next().unwrap_or_default();
    let authority = path.find("://").map_or(0, |at| at + "://".len());
    match path.rfind('/') {
        Some(slash) if slash >= authority => format!("{}revocations", &path[..=slash]),
        _ => format!("{path}/revocations"),
    }
}

/// Why a page could not be read. The text is meant for the log.
#[derive(Debug, Error)]
pub(super) enum FeedError {
    #[error("there is no list")]
    Missing,
    #[error(transparent)]
    Fetch(FetchError),
    #[error(transparent)]
    Page(#[from] RevocationError),
    #[error("the pages of the list have no end")]
    Endless,
    #[error("the issuer has no page: {0}")]
    Own(Box<dyn std::error::Error + Send + Sync>),
}

impl FeedError {
    /// Whether the list has no room for the page.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Page(RevocationError::TooMany))
    }
}

impl From<FetchError> for FeedError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Status(StatusCode::NOT_FOUND) => Self::Missing,
            error => Self::Fetch(error),
        }
    }
}

pub(super) struct Fetched {
    /// `None` if nothing has changed.
    pub(super) page: Option<RevocationPage>,
    pub(super) fresh_for: Option<Duration>,
}

pub(super) enum Source {
    Http(Box<HttpSource>),
    Own(Arc<dyn RevocationSource>),
}

impl Source {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Http(source) => source.fetcher.name(),
            Self::Own(_) => "the same process".to_owned(),
        }
    }

    /// Forgets the entity tag, because the last page could not be stored and must be fetched again.
    pub(super) fn forget(&mut self) {
        if let Self::Http(source) = self {
            source.seen = None;
        }
    }

    pub(super) async fn page(&mut self, after: Option<&str>) -> Result<Fetched, FeedError> {
        match self {
            Self::Http(source) => source.page(after).await,
            Self::Own(source) => {
                let page = source.page(after).await.map_err(FeedError::Own)?;
                Ok(Fetched { page: Some(page), fresh_for: None })
            }
        }
    }
}

pub(super) struct HttpSource {
    fetcher: Fetcher,
    /// The query of the last stored page, and the entity tag of that response (RFC 9110 section
    /// 8.8.3).
    seen: Option<(String, HeaderValue)>,
}

impl HttpSource {
    pub(super) fn new(url: &str, access: &Access) -> Result<Self, UrlError> {
        Ok(Self { fetcher: Fetcher::new(url, access, LIMITS)?, seen: None })
    }

    async fn page(&mut self, after: Option<&str>) -> Result<Fetched, FeedError> {
        let query = after.map_or_else(String::new, |cursor| {
            let cursor: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
            format!("after={cursor}")
        });
        // The tag belongs to that page only, so it is not sent with other queries.
        let tag = self.seen.take().filter(|(of, _)| *of == query).map(|(_, tag)| tag);
        let fields: Vec<_> = tag.iter().map(|tag| (IF_NONE_MATCH, tag.clone())).collect();
        let answer = self.fetcher.get(&query, &fields).await?;
        let fresh_for = answer.fresh_for();
        if answer.status == StatusCode::NOT_MODIFIED {
            let tag = tag.ok_or(FetchError::Status(answer.status))?;
            self.seen = Some((query, tag));
            return Ok(Fetched { page: None, fresh_for });
        }
        let page = RevocationPage::from_json(&answer.body)?;
        // A page that has a successor or resets the list must be read in full the next time.
        if !page.more && !page.reset {
            self.seen = answer.headers.get(ETAG).map(|tag| (query, tag.clone()));
        }
        Ok(Fetched { page: Some(page), fresh_for })
    }
}

#[cfg(test)]
mod tests {
    use super::revocations_beside;

    #[test]
    fn the_list_stands_beside_the_keys() {
        for (jwks, list) in [
            ("http://a:3000/.well-known/jwks.json", "http://a:3000/.well-known/revocations"),
            ("https://a/b/c/jwks?x=/y#z", "https://a/b/c/revocations"),
            ("https://a/", "https://a/revocations"),
            ("https://a", "https://a/revocations"),
        ] {
            assert_eq!(revocations_beside(jwks), list);
        }
    }
}
