//! The URLs of one-time links.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use service_kit::settings::Secret;
use url::Url;

/// A page that a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The page to choose a new password.
    ResetPassword,
    /// The page to confirm an address.
    VerifyEmail,
}

/// Builds links. Their base comes from the settings and never from a request, because the sender of a
/// request controls its Host header.
#[derive(Debug, Clone)]
pub struct Links {
    /// The public URL of the service. If it is not set, it is known once the listener is bound.
    base: Arc<OnceLock<Url>>,
    reset_password: Option<Url>,
    verify_email: Option<Url>,
}

impl Links {
    /// Links to the service's own pages under `base`, or to the pages of an application if they are
    /// given.
    #[must_use]
    pub fn new(base: Option<Url>, reset_password: Option<Url>, verify_email: Option<Url>) -> Self {
        let known = Arc::new(OnceLock::new());
        if let Some(base) = base {
            let _ = known.set(base);
        }
        Self { base: known, reset_password, verify_email }
    }

    /// Sets the base, unless it is already known.
    pub fn use_base(&self, base: Url) {
        let _ = self.base.set(base);
    }

    /// The link with `token` in its fragment. Browsers do not send the fragment, so the token gets into
    /// no access log and no Referer header. `None` while the base is unknown.
    #[must_use]
    pub fn to(&self, page: Page, token: &Secret) -> Option<String> {
        let (own, path) = match page {
            Page::ResetPassword => (&self.reset_password, "account/reset-password"),
            Page::VerifyEmail => (&self.verify_email, "account/verify-email"),
        };
        let mut url = match own {
            Some(url) => url.clone(),
            None => {
                let base = self.base.get()?;
                let base = base.as_str().trim_end_matches('/');
                format!("{base}/{path}").parse().ok()?
            }
        };
        url.set_fragment(Some(&format!("token={}", token.expose())));
        Some(url.into())
    }

    /// The host of the base, which mails use as the name of the service.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.base.get()?.host_str()
    }
}

/// The URL of the service on this machine, for the case that no public URL is set.
#[must_use]
pub fn own_url(is_tls: bool, address: SocketAddr) -> Option<Url> {
    let scheme = if is_tls { "https" } else { "http" };
    let base = match address.ip().is_unspecified() {
        true => format!("{scheme}://localhost:{}", address.port()),
        false => format!("{scheme}://{address}"),
    };
    base.parse().ok()
}

/// Parses `PUBLIC_URL`, to which the paths of the service are appended.
///
/// # Errors
///
/// If it is not an http or https URL, or if it has a user, a query or a fragment.
pub fn public_url(text: &str) -> Result<Url, String> {
    let url = page_url(text)?;
    if url.query().is_some() {
        return Err("has a query".to_owned());
    }
    Ok(url)
}

/// Parses the URL of an application's page.
///
/// # Errors
///
/// If it is not an http or https URL, or if it has a user or a fragment.
pub fn page_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|_| "is not a URL such as https://example.com".to_owned())?;
    // `Url` silently repairs what browsers repair. A setting should be correct as written.
    let is_absolute = text.starts_with("https://") || text.starts_with("http://");
    if !is_absolute || !url.has_host() {
        return Err("is not a URL that starts with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("has a fragment".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<Url> {
        Some(page_url(text).unwrap())
    }

    #[test]
    fn links_lead_to_the_own_pages_or_to_those_of_an_application() {
        let token = Secret::new("abc".to_owned());
        let to = |links: &Links, page| links.to(page, &token).unwrap();
        for base in ["https://auth.example.com", "https://auth.example.com/"] {
            let links = Links::new(url(base), None, None);
            let reset = "https://auth.example.com/account/reset-password#token=abc";
            assert_eq!(to(&links, Page::ResetPassword), reset);
            assert_eq!(links.host(), Some("auth.example.com"));
        }
        let links = Links::new(url("https://x.org/auth"), url("https://app.org/reset?a=1"), None);
        assert_eq!(to(&links, Page::ResetPassword), "https://app.org/reset?a=1#token=abc");
        assert_eq!(
            to(&links, Page::VerifyEmail),
            "https://x.org/auth/account/verify-email#token=abc"
        );
    }

    #[test]
    fn a_base_that_is_known_later_does_not_replace_one_that_was_set() {
        let token = Secret::new("abc".to_owned());
        let links = Links::new(None, None, None);
        assert_eq!(links.to(Page::VerifyEmail, &token), None);
        links.clone().use_base(public_url("http://127.0.0.1:1").unwrap());
        links.use_base(public_url("http://127.0.0.1:2").unwrap());
        let link = links.to(Page::VerifyEmail, &token).unwrap();
        assert_eq!(link, "http://127.0.0.1:1/account/verify-email#token=abc");
    }

    #[test]
    fn other_urls_are_refused() {
        for text in [
            "",
            "example.com",
            "//example.com",
            "https:example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "https://user:password@example.com",
            "https://example.com/#a",
            "https://example.com/?a",
            "https://",
            "https://exa mple.com",
            " https://example.com#",
        ] {
            assert!(public_url(text).is_err(), "{text}");
        }
        assert!(page_url("https://example.com/?a").is_ok());
    }
}
