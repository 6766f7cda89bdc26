//! Failures of requests to the Hub: which are tried again and after what pause, and the message where no try helps.

use crate::error::Error;
use crate::hub::http::{host, value};
use reqwest::Url;
use reqwest::blocking::Response;
use reqwest::header::HeaderMap;
use std::fmt;
use std::io::Read;
use std::time::{Duration, SystemTime};

/// Retries without progress, where a connection was made.
const TRIES: u32 = 5;
/// Retries where no connection was made.
const TRIES_UNREACHABLE: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A server that asks for a longer pause is not waited for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
const MAX_MESSAGE_BYTES: u64 = 1 << 16;

/// The reason why a file or a list of files did not arrive.
#[derive(Debug)]
pub enum Failure {
    /// No connection came about.
    Unreachable(String),
    /// The connection broke, or fell silent.
    Broken(String),
    /// The server answered and refused the file.
    Refused(Refusal),
    /// A failure that another try would not change.
    Final(String),
    /// An error on this machine, not in the network.
    Local(Error),
}

/// An answer with a status of failure.
#[derive(Debug)]
pub struct Refusal {
    /// Status of HTTP.
    pub status: u16,
    /// The server's own word for it; the Hub's are `RepoNotFound`, `RevisionNotFound`, `EntryNotFound`, `GatedRepo`.
    pub code: Option<String>,
    message: Option<String>,
    wait: Option<Duration>,
    host: String,
}

impl Refusal {
    /// Reads the Hub's error headers, or the message in a JSON body.
    pub fn of(response: Response) -> Self {
        let headers = response.headers();
        let text = |name| value(headers, name).map(String::from);
        let (status, host, code) = (response.status().as_u16(), host(response.url()), text("x-error-code"));
        let (wait, message) = (asked_wait(headers), text("x-error-message"));
        let (message, in_body) = match message {
            Some(message) => (Some(message), None),
            None => said_in_body(response).map_or((None, None), |(message, code)| (Some(message), code)),
        };
        Self { status, code: code.or(in_body), message: message.filter(|own| !own.trim().is_empty()), wait, host }
    }

    /// Whether another try may succeed. An account with no money left is refused with status 429, but for good.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500 | 502..=599) && !self.is("insufficient_quota")
    }

    fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

/// Seconds until the server wants to be asked again: by `Retry-After`, as a number or a date, or by `RateLimit`.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let after = value(headers, "retry-after").map(str::trim).and_then(|text| {
        let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
        text.parse().ok().map(Duration::from_secs).or_else(|| httpdate::parse_http_date(text).ok().map(until))
    });
    // `"api";r=0;t=55`: nothing remains, for 55 seconds.
    let limit = value(headers, "ratelimit").and_then(|text| {
        let field =
            |name: &str| text.split(';').find_map(|part| part.trim().strip_prefix(name)?.trim().parse::<u64>().ok());
        (field("r=") == Some(0)).then(|| field("t=")).flatten().map(Duration::from_secs)
    });
    after.or(limit)
}

/// Message and code of a body in JSON: `{"error": "…"}`, or `{"error": {"message": "…", "code": "…"}}`.
fn said_in_body(response: Response) -> Option<(String, Option<String>)> {
    let mut body = Vec::new();
    response.take(MAX_MESSAGE_BYTES).read_to_end(&mut body).ok()?;
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    let error = body.get("error")?;
    let code = error.get("code").and_then(|code| code.as_str()).map(String::from);
    Some((error.as_str().or_else(|| error.get("message")?.as_str())?.to_string(), code))
}

impl Failure {
    /// A request to `url` that got no answer.
    pub fn of(url: &Url, error: reqwest::Error) -> Self {
        let (host, connecting, silent) = (host(url), error.is_connect(), error.is_timeout());
        let error = error.without_url();
        let said = chain(&error);
        if is_about_certificate(&error) {
            let help = "SSL_CERT_FILE names the file of certificates of an authority of your own";
            return Failure::Final(format!("{host}: its certificate is not trusted: {said}; {help}"));
        }
        match (connecting, silent) {
            (true, _) => Failure::Unreachable(format!("{host} cannot be reached: {said}")),
            (false, true) => Failure::Broken(format!("{host} does not answer: {said}")),
            _ if error.is_builder() => Failure::Final(format!("{host}: {said}")),
            _ => Failure::Broken(format!("{host}: {said}")),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Local(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(said) | Failure::Broken(said) | Failure::Final(said) => f.write_str(said),
            Failure::Refused(Refusal { status, host, message, .. }) => {
                write!(f, "{host} answered with status {status}")?;
                message.as_ref().map_or(Ok(()), |message| write!(f, " ({message})"))
            }
            Failure::Local(error) => error.fmt(f),
        }
    }
}

/// An error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}

/// Whether a certificate is what one of the causes is about.
fn is_about_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    // What an error of input and output holds is none of its sources.
    let held = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
        || held.is_some_and(|held| is_about_certificate(held))
        || error.source().is_some_and(is_about_certificate)
}

/// Counts retries, and pauses before each: twice as long each time, or as long as the server asks.
pub struct Patience {
    tried: u32,
    tries: u32,
    /// Place of a pause in its range, from 0 to 1: requests that failed together are not to come again together.
    spread: f64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tried: 0, tries: TRIES, spread: 0.0 }
    }
}

impl Patience {
    /// Patience of so many retries. A pause of one's own is shortened by half at most, one that the server asks for is made
    /// longer by a second at most: both by `spread`, from 0 to 1.
    pub fn of(tries: u32, spread: f64) -> Self {
        Self { tried: 0, tries, spread }
    }

    /// Starts the count again, after progress.
    pub fn renew(&mut self) {
        self.tried = 0;
    }

    /// Waits before the next try and prints for how long, or gives the failure back where there is no next try.
    pub fn wait(&mut self, failure: Failure, what: &str) -> Result<(), Failure> {
        let (pause, tries) = match &failure {
            Failure::Unreachable(_) => (None, TRIES_UNREACHABLE),
            Failure::Broken(_) => (None, self.tries),
            Failure::Refused(refusal) if refusal.is_passing() => (refusal.wait, self.tries),
            Failure::Refused(_) | Failure::Final(_) | Failure::Local(_) => return Err(failure),
        };
        let own = || (FIRST_PAUSE * 2u32.pow(self.tried)).min(LONGEST_PAUSE).mul_f64(1.0 - self.spread / 2.0);
        let pause = pause.map_or_else(own, |asked| asked + asked.min(Duration::from_secs(1)).mul_f64(self.spread));
        if self.tried >= tries || pause > LONGEST_ASKED {
            return Err(failure);
        }
        self.tried += 1;
        eprintln!("{what}: {failure}; again in {:.1} s ({} of {tries})", pause.as_secs_f64(), self.tried);
        std::thread::sleep(pause);
        Ok(())
    }
}

/// A request, as error messages describe it.
pub struct Asked<'a> {
    /// Repository, `owner/name`.
    pub name: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// File of it; none for its list of files.
    pub file: Option<&'a str>,
    /// Page of the repository.
    pub page: Url,
    /// Variable or file of the token that was sent.
    pub token: Option<&'a str>,
}

impl Asked<'_> {
    /// Repository and file, for messages.
    pub fn what(&self) -> String {
        self.file.map_or(self.name.to_string(), |file| format!("{}: {file}", self.name))
    }

    /// The error message: the request, the reason, and the remedy.
    pub fn explain(&self, failure: Failure) -> Error {
        let what = self.what();
        match failure {
            Failure::Local(error) => error,
            Failure::Refused(refusal) if refusal.is_passing() => {
                Error::Network(format!("{what}: {}", self.refused(refusal)))
            }
            Failure::Refused(refusal) => Error::invalid(format!("{what}: {}", self.refused(refusal))),
            Failure::Final(said) => Error::invalid(format!("{what}: {said}")),
            Failure::Unreachable(said) => Error::Network(format!(
                "{what}: {said}; without a network only what is in the cache can be used (--offline)"
            )),
            Failure::Broken(said) => {
                Error::Network(format!("{what}: {said}; what has arrived of a file is kept: the same command goes on"))
            }
        }
    }

    fn refused(&self, refusal: Refusal) -> String {
        let (status, page, revision) = (refusal.status, &self.page, self.revision);
        let sent = match self.token {
            Some(origin) => format!("the token from {origin} was sent"),
            None => "no token was sent".to_string(),
        };
        let hub = refusal.message.as_ref().map_or(String::new(), |message| format!("; the Hub says: {message}"));
        let invalid = refusal.message.as_deref().is_some_and(|message| message.starts_with("Invalid credentials"));
        if status == 401
            && invalid
            && let Some(origin) = self.token
        {
            return format!("no access (status 401): the Hub does not know the token from {origin}");
        }
        if refusal.is("GatedRepo") {
            return format!(
                "no access (status {status}): the repository is gated: accept its licence at {page}, and set HF_TOKEN to a token \
                 of the account that did; {sent}{hub}"
            );
        }
        match status {
            _ if refusal.is("RevisionNotFound") => format!("the repository has no revision {revision}"),
            404 if self.file.is_some() || refusal.is("EntryNotFound") => {
                format!("the repository has no such file at revision {revision}")
            }
            404 => format!(
                "neither a folder here nor a repository of the Hub; if it is private, set HF_TOKEN to a token with access to it; \
                 {sent}"
            ),
            401 | 403 => format!(
                "no access (status {status}): the Hub has no repository of this name, or it is private or gated: see {page}, and \
                 set HF_TOKEN to a token with access to it; {sent}{hub}"
            ),
            407 => "the proxy asks for a name and a password (status 407): set http_proxy or https_proxy to \
                    http://NAME:PASSWORD@HOST:PORT"
                .to_string(),
            _ => {
                let wait = refusal.wait.map_or(String::new(), |wait| format!("; it asks to wait {} s", wait.as_secs()));
                format!("{} answered with status {status}{wait}{hub}", refusal.host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn servers_say_how_long_to_wait_in_three_ways() {
        let seconds = |name, value: &str| asked_wait(&headers(name, value)).map(|wait| wait.as_secs());
        assert_eq!(seconds("retry-after", "120"), Some(120));
        assert_eq!(seconds("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        assert!(seconds("retry-after", &soon).is_some_and(|wait| (85..=90).contains(&wait)));
        assert_eq!(seconds("ratelimit", "\"api\";r=0;t=55"), Some(55));
        assert_eq!(seconds("ratelimit", "\"api\";r=3;t=55"), None);
        assert_eq!(seconds("retry-after", "soon"), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        let refused =
            |status, wait| Failure::Refused(Refusal { status, code: None, message: None, wait, host: "h".into() });
        let now = Some(Duration::ZERO);
        for (status, expected) in [(503, TRIES), (429, TRIES), (408, TRIES), (404, 0), (403, 0), (501, 0), (416, 0)] {
            let mut patience = Patience::default();
            let tries = (0..).take_while(|_| patience.wait(refused(status, now), "x").is_ok()).count();
            assert_eq!(tries as u32, expected, "{status}");
        }
        assert!(Patience::default().wait(refused(429, Some(LONGEST_ASKED * 2)), "x").is_err());
        assert!(Patience::default().wait(Failure::Final("x".into()), "x").is_err());
    }

    #[test]
    fn a_failure_is_explained_with_what_helps() {
        let page = Url::parse("http://h/a/b").unwrap();
        let asked = Asked { name: "a/b", revision: "main", file: Some("f"), page, token: None };
        let said = |failure| asked.explain(failure).to_string();
        assert!(
            said(Failure::Broken("h: cut".into()))
                .ends_with("f: h: cut; what has arrived of a file is kept: the same command goes on")
        );
        assert!(said(Failure::Unreachable("h: no".into())).ends_with("can be used (--offline)"));
        let disabled = Refusal {
            status: 403,
            code: None,
            message: Some("Access to this resource is disabled.".into()),
            wait: None,
            host: "h".into(),
        };
        assert!(
            said(disabled.into()).ends_with("no token was sent; the Hub says: Access to this resource is disabled.")
        );
    }
}
