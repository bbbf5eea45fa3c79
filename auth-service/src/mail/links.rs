//! One-time links: where they lead.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use service_kit::settings::Secret;
use url::Url;

/// A page that a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Choosing a new password.
    ResetPassword,
    /// Confirming an address.
    VerifyEmail,
}

/// Where links lead. The base comes from the settings, never from a request: whoever sends a request
/// chooses its Host.
#[derive(Debug, Clone)]
pub struct Links {
    /// Where the service is for people. Without a setting it is known when the service has bound its
    /// listener.
    base: Arc<OnceLock<Url>>,
    reset_password: Option<Url>,
    verify_email: Option<Url>,
}

impl Links {
    /// Links to the service's own pages under `base`, or to an application's pages where those are given.
    #[must_use]
    pub fn new(base: Option<Url>, reset_password: Option<Url>, verify_email: Option<Url>) -> Self {
        let known = Arc::new(OnceLock::new());
        if let Some(base) = base {
            let _ = known.set(base);
        }
        Self { base: known, reset_password, verify_email }
    }

    /// Gives the base, unless it is known already.
    pub fn use_base(&self, base: Url) {
        let _ = self.base.set(base);
    }

    /// The link with `token`, which is in the fragment: browsers send that to nobody, so that it is in
    /// no access log and no Referer field. Nothing while the base is not known.
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

    /// The host of the base, which is a name for the service.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.base.get()?.host_str()
    }
}

/// Where the service is for people on the same machine, where no setting says it.
#[must_use]
pub fn own_url(is_tls: bool, address: SocketAddr) -> Option<Url> {
    let scheme = if is_tls { "https" } else { "http" };
    let base = match address.ip().is_unspecified() {
        true => format!("{scheme}://localhost:{}", address.port()),
        false => format!("{scheme}://{address}"),
    };
    base.parse().ok()
}

/// Reads `PUBLIC_URL`: what comes before the service's paths.
///
/// # Errors
///
/// Where it is not an http or https URL without user, query and fragment.
pub fn public_url(text: &str) -> Result<Url, String> {
    let url = page_url(text)?;
    if url.query().is_some() {
        return Err("has a query".to_owned());
    }
    Ok(url)
}

/// Reads the URL of an application's page.
///
/// # Errors
///
/// Where it is not an http or https URL without user and fragment.
pub fn page_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|_| "is not a URL such as https://example.com".to_owned())?;
    // `Url` mends what browsers mend; a setting should say what it means.
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
