//! Requests over HTTP and HTTPS: whom they may reach, redirects, and what went wrong.
//!
//! Anybody can write a URL into a torrent, and we ask it from inside the user's network: to keep such URLs from
//! services that were never meant for strangers, each step of a request is held to rules on the address that it
//! really leads to (libtorrent has the same as `ssrf_mitigation`; its audit of 2020 found the need). A name is
//! resolved by [`Sockets`] for the connection itself, so that no second answer of the name's server gets by.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, LOCATION, RANGE};
use reqwest::{RequestBuilder, Response, Url};
use riverrun_base::Nearness;
use riverrun_tracker::{InvalidReply, TrackerFailure};
use rustls::CertificateError;
use thiserror::Error;

use super::socket::{Family, HTTP_TIMEOUT, Sockets};

/// Redirects that are followed; more is a loop.
const REDIRECTS_MAX: usize = 5;

/// The longest that a part of a file takes. Whoever reads it has limits of its own, on what comes meanwhile.
const BODY_TIMEOUT: Duration = Duration::from_hours(24);

/// Who wrote a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// Our user, who may ask for anything on this machine and in this network.
    User,
    /// Whoever made the torrent, of a tracker.
    Stranger,
    /// Whoever made the torrent, of a web seed: files of a torrent are not on our machine, nor in what programs of our
    /// network answer to a question.
    Publisher,
}

/// Whom one step of a request may reach. Nobody reaches addresses of the link: what answers there answers to its
/// neighbours only, as the metadata services of clouds do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// This machine too.
    Machine,
    /// The local network, and everything beyond.
    Network,
    /// Only what is not local.
    World,
}

impl Reach {
    pub(crate) const ALL: [Self; 3] = [Self::Machine, Self::Network, Self::World];

    /// For a step to `url`, after steps that may have left the local network.
    fn of(url: &Url, author: Author, was_outside: bool) -> Self {
        if was_outside {
            Self::World
        } else {
            match author {
                Author::User => Self::Machine,
                Author::Stranger if is_announce(url.path()) => Self::Machine,
                Author::Publisher if url.query().is_some() => Self::World,
                Author::Stranger | Author::Publisher => Self::Network,
            }
        }
    }

    pub(crate) fn allows(self, ip: IpAddr) -> bool {
        let Some(nearness) = Nearness::of(ip) else {
            return false;
        };
        match nearness {
            Nearness::Machine => self == Self::Machine,
            Nearness::Link => false,
            Nearness::Network => self != Self::World,
            Nearness::World => true,
        }
    }

    pub(crate) fn forbid(self, ip: IpAddr) -> Forbidden {
        let rule = match (Nearness::of(ip), self) {
            (None | Some(Nearness::Link), _) => "which is never asked",
            (_, Self::World) => "where no redirect from outside may go",
            _ => "where only a path of /announce is asked",
        };
        Forbidden { ip, rule }
    }
}

/// Whether a path is that of an announce or a scrape. Services that are not meant for us have others.
fn is_announce(path: &str) -> bool {
    let rest = path
        .strip_prefix("/announce")
        .or_else(|| path.strip_prefix("/scrape"));
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

/// A URL leads where it may not.
#[derive(Clone, Copy, Debug, Error)]
#[error("its url leads to {ip}, {rule}")]
pub(crate) struct Forbidden {
    ip: IpAddr,
    rule: &'static str,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum WebError {
    #[error("no answer in time")]
    TimedOut,
    /// The host has no address of the family.
    #[error("no address in its family")]
    NoAddress,
    #[error("{0}")]
    Unreachable(String),
    /// Its certificate is not right.
    #[error("{0}")]
    Untrusted(String),
    #[error(transparent)]
    TooLong(InvalidReply),
}

impl From<WebError> for TrackerFailure {
    fn from(error: WebError) -> Self {
        match error {
            WebError::TimedOut => Self::TimedOut,
            WebError::NoAddress => Self::Unreachable(error.to_string()),
            WebError::Unreachable(why) => Self::Unreachable(why),
            WebError::Untrusted(why) => Self::Untrusted(why),
            WebError::TooLong(reply) => Self::InvalidReply(reply),
        }
    }
}

impl From<reqwest::Error> for WebError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        // The outer error repeats the URL, which may hold a secret key; the innermost says what happened.
        let mut cause: &(dyn Error + 'static) = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        if let Some(no_address) = cause.downcast_ref::<Self>() {
            return no_address.clone();
        }
        match tls_error(cause) {
            Some(rustls::Error::InvalidCertificate(wrong)) => Self::Untrusted(distrust(wrong)),
            _ => Self::Unreachable(cause.to_string()),
        }
    }
}

/// The error of TLS inside of one of input and output, which may be wrapped more than once.
fn tls_error<'a>(mut error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    while let Some(outer) = error.downcast_ref::<std::io::Error>() {
        error = outer.get_ref()?;
    }
    error.downcast_ref()
}

/// What is wrong with a certificate.
fn distrust(wrong: &CertificateError) -> String {
    let words = match wrong {
        CertificateError::UnknownIssuer => {
            "its certificate is signed by nobody who is trusted here"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host"
        }
        other => return format!("its certificate is invalid: {other}"),
    };
    words.to_owned()
}

/// The first and the last byte of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl ByteRange {
    /// Has a request ask for this part, as it is: compressed it would be another.
    fn of(self, request: RequestBuilder) -> RequestBuilder {
        let Self { first, last } = self;
        request
            .header(RANGE, format!("bytes={first}-{last}"))
            .header(ACCEPT_ENCODING, "identity")
            .timeout(BODY_TIMEOUT)
    }
}

/// Asks over HTTP and HTTPS.
pub(crate) struct Web<'a> {
    sockets: &'a Sockets,
}

impl<'a> Web<'a> {
    pub(crate) const fn new(sockets: &'a Sockets) -> Self {
        Self { sockets }
    }

    /// Asks for a URL; `None` if a family is not used, by us or by the host.
    pub(crate) async fn get(
        &self,
        family: Family,
        url: &str,
        author: Author,
    ) -> Option<Result<Response, WebError>> {
        self.ask(family, url, author, None).await
    }

    /// Asks for a part of what a URL stands for. The body may take as long as it wants.
    pub(crate) async fn get_range(
        &self,
        family: Family,
        url: &str,
        author: Author,
        range: ByteRange,
    ) -> Option<Result<Response, WebError>> {
        self.ask(family, url, author, Some(range)).await
    }

    async fn ask(
        &self,
        family: Family,
        url: &str,
        author: Author,
        range: Option<ByteRange>,
    ) -> Option<Result<Response, WebError>> {
        let follow = self.follow(family, url, author, range);
        let answer = tokio::time::timeout(HTTP_TIMEOUT, follow).await;
        match answer.unwrap_or(Err(WebError::TimedOut)) {
            Err(WebError::NoAddress) => None,
            answer => Some(answer),
        }
    }

    async fn follow(
        &self,
        family: Family,
        url: &str,
        author: Author,
        range: Option<ByteRange>,
    ) -> Result<Response, WebError> {
        let no_url = |error: &dyn Error| WebError::Unreachable(error.to_string());
        let mut url = Url::parse(url).map_err(|error| no_url(&error))?;
        let mut was_outside = false;
        for _ in 0..=REDIRECTS_MAX {
            let reach = Reach::of(&url, author, was_outside);
            match literal(&url) {
                Some(ip) if !reach.allows(ip) => return Err(no_url(&reach.forbid(ip))),
                Some(ip) if Family::of_ip(ip) != family && !self.sockets.is_proxied() => {
                    return Err(WebError::NoAddress);
                }
                _ => {}
            }
            let Some(client) = self.sockets.web(family, reach)? else {
                return Err(WebError::NoAddress);
            };
            let request = client.get(url);
            let request = match range {
                Some(range) => range.of(request),
                None => request,
            };
            let response = request.send().await?;
            let Some(next) = redirect(&response)? else {
                return Ok(response);
            };
            was_outside |= self.answered_from(&response) == Some(Nearness::World);
            url = next;
        }
        let message = format!("more than {REDIRECTS_MAX} redirects");
        Err(WebError::Unreachable(message))
    }

    /// How far away the host is that answered.
    pub(crate) fn answered_from(&self, response: &Response) -> Option<Nearness> {
        let addr = response.remote_addr()?;
        self.sockets.nearness(addr.ip())
    }
}

/// The address that a URL has instead of a name.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').unwrap_or(host);
    host.strip_suffix(']').unwrap_or(host).parse().ok()
}

/// Where a response sends us, if it does.
fn redirect(response: &Response) -> Result<Option<Url>, WebError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let location = location.to_str().ok();
    let next = location.and_then(|location| response.url().join(location).ok());
    match next {
        Some(next) if matches!(next.scheme(), "http" | "https") => Ok(Some(next)),
        Some(next) => {
            let message = format!("redirected to a url of scheme {:?}", next.scheme());
            Err(WebError::Unreachable(message))
        }
        None => Err(WebError::Unreachable("redirected to no url".to_owned())),
    }
}

/// A whole body, of at most `limit` bytes.
pub(crate) async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, WebError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let actual = body.len() + chunk.len();
        if actual > limit {
            return Err(WebError::TooLong(InvalidReply::TooLong { actual, limit }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(url: &str, author: Author, was_outside: bool) -> bool {
        let url = Url::parse(url).unwrap();
        let ip = literal(&url).unwrap();
        Reach::of(&url, author, was_outside).allows(ip)
    }

    #[test]
    fn a_strangers_url_reaches_this_machine_only_to_announce() {
        for allowed in [
            "http://127.0.0.1:1/announce?x=1",
            "http://[::1]/announce/key",
            "http://127.0.0.1/announce.php",
            "http://127.0.0.1/scrape?x=1",
            "http://192.168.1.1/anything",
            "http://1.1.1.1/anything",
        ] {
            assert!(allows(allowed, Author::Stranger, false), "{allowed}");
        }
        for forbidden in [
            "http://127.0.0.1/",
            "http://127.0.0.1/announcements/delete",
            "http://127.0.0.1/admin?x=/announce",
            "http://[::ffff:127.0.0.1]/admin",
            "http://2130706433/admin",
            "http://0.0.0.0/announce",
        ] {
            assert!(!allows(forbidden, Author::Stranger, false), "{forbidden}");
        }
    }

    #[test]
    fn a_publishers_url_reaches_no_service_of_this_machine_or_network() {
        for allowed in [
            "http://192.168.1.1/files/",
            "http://1.1.1.1/files?key=1",
            "http://[2001:4860:4860::8888]/",
        ] {
            assert!(allows(allowed, Author::Publisher, false), "{allowed}");
        }
        for forbidden in [
            "http://127.0.0.1/announce",
            "http://[::1]/file",
            "http://192.168.1.1/reboot?now=1",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            assert!(!allows(forbidden, Author::Publisher, false), "{forbidden}");
        }
        assert!(!allows("http://10.0.0.1/file", Author::Publisher, true));
    }

    #[test]
    fn our_user_reaches_this_machine_and_nobody_the_link() {
        assert!(allows("http://127.0.0.1/some.torrent", Author::User, false));
        for url in [
            "http://169.254.169.254/announce",
            "http://[fe80::1]/announce",
        ] {
            assert!(!allows(url, Author::User, false), "{url}");
            assert!(!allows(url, Author::Stranger, false), "{url}");
        }
    }

    #[test]
    fn what_has_been_outside_does_not_come_back_in() {
        for url in ["http://127.0.0.1/announce", "http://10.0.0.1/announce"] {
            assert!(!allows(url, Author::User, true), "{url}");
        }
        assert!(allows("http://1.1.1.1/announce", Author::Stranger, true));
    }
}
