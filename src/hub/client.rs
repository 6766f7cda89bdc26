//! Requests to the Hub. Redirects are followed here: so the token goes to the Hub alone, and the Hub's headers about a file,
//! which stand on the redirect, are kept. Bodies are requested uncompressed, and decoded if a server compresses them anyway.

use crate::error::{Error, Result};
use crate::hub::failure::{Failure, Refusal};
use crate::hub::http::{host, value};
use crate::hub::settings::{Settings, Token};
use crate::hub::trust;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::blocking::Response;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{NoProxy, Proxy, StatusCode, Url};
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

const MAX_REDIRECTS: usize = 20;
/// Further names of the Hub, to which a mirror may redirect.
const HUBS: [&str; 2] = ["https://huggingface.co", "https://hf.co"];

/// HTTP client of the Hub or a mirror of it.
pub struct Client {
    http: reqwest::blocking::Client,
    endpoint: Url,
    hubs: Vec<Url>,
    token: Option<(HeaderValue, String)>,
}

/// A request for the rest of a file.
pub struct Range {
    /// First byte that is requested: the number of bytes that are there.
    pub from: u64,
    /// ETag that the server's file must still have (`If-Range`); not needed where a hash checks the whole.
    pub of: Option<String>,
}

/// A response whose body is yet to be read, and the headers about its file.
pub struct Answer {
    /// The response after all redirects.
    pub response: Response,
    /// Hash or other name of the content: the Hub's `X-Linked-ETag`, or the body's ETag, without quotes and mark of weakness.
    pub etag: Option<String>,
    /// Size of the whole file, in bytes.
    pub size: Option<u64>,
    /// Commit that the file belongs to.
    pub commit: Option<String>,
}

/// Requests with the proxies and certificates of these settings, and this time limit; redirects are not followed.
pub(crate) fn http_client(settings: &Settings, timeout: Duration) -> Result<reqwest::blocking::Client> {
    let mut http = reqwest::blocking::Client::builder()
        .user_agent(concat!("gist/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout)
        .tls_backend_preconfigured(trust::config(settings)?)
        .no_proxy();
    for scheme in ["http", "https"] {
        if let Some((name, address)) = settings.proxy(scheme) {
            let unproxied = NoProxy::from_string(&settings.unproxied().join(","));
            http = http.proxy(proxy(scheme, &name, &address)?.no_proxy(unproxied));
        }
    }
    http.build().map_err(|error| Error::invalid(format!("no request can be made: {error}")))
}

impl Client {
    /// A client with the endpoint, token, proxies, certificates and time limit of these settings.
    pub fn new(settings: &Settings) -> Result<Self> {
        let endpoint = settings.endpoint()?;
        let hubs = HUBS.iter().filter_map(|hub| Url::parse(hub).ok());
        let token = settings.token()?.map(bearer).transpose()?;
        let http = http_client(settings, settings.timeout()?)?;
        Ok(Self { http, hubs: hubs.chain([endpoint.clone()]).collect(), endpoint, token })
    }

    /// An address at the Hub; each part is escaped, its slashes too.
    pub fn address<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Page of a repository, `owner/name`, to be shown.
    pub fn page(&self, name: &str) -> Url {
        let mut page = self.address(name.split('/'));
        // Neither fails where there is a host. A password of the endpoint is not to be seen.
        let _ = page.set_username("").and_then(|()| page.set_password(None));
        page
    }

    /// A file of a repository at a commit.
    pub fn file(&self, name: &str, commit: &str, file: &str) -> Url {
        self.address(name.split('/').chain(["resolve", commit]).chain(file.split('/')))
    }

    /// Variable or file of the token that is sent.
    pub fn token_origin(&self) -> Option<&str> {
        self.token.as_ref().map(|(_, origin)| origin.as_str())
    }

    /// One request and its redirects.
    pub fn get(&self, url: &Url, range: Option<&Range>) -> std::result::Result<Answer, Failure> {
        let (mut url, mut said) = (url.clone(), Said::default());
        for _ in 0..=MAX_REDIRECTS {
            let at_hub = self.hubs.iter().any(|hub| hub.origin() == url.origin());
            let mut request = self.http.get(url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let Some((bearer, _)) = self.token.as_ref().filter(|_| at_hub) {
                request = request.header(header::AUTHORIZATION, bearer);
            }
            if let Some(range) = range {
                request = request.header(header::RANGE, format!("bytes={}-", range.from));
                if let Some(of) = &range.of {
                    request = request.header(header::IF_RANGE, of);
                }
            }
            let response = request.send().map_err(|error| Failure::of(&url, error))?;
            said.note(response.headers(), at_hub);
            let status = response.status();
            let location = value(response.headers(), "location").filter(|_| status.is_redirection());
            let Some(location) = location else {
                return if status.is_success() { Ok(said.answer(response)) } else { Err(Refusal::of(response).into()) };
            };
            url = match url.join(location) {
                Ok(next) if matches!(next.scheme(), "http" | "https") => next,
                _ => {
                    return Err(Failure::Final(format!(
                        "{}: redirects to {location:?}, which is no address",
                        host(&url)
                    )));
                }
            };
        }
        Err(Failure::Final(format!("{}: more than {MAX_REDIRECTS} redirects", host(&url))))
    }
}

/// A file's hash, size and commit by the Hub's own headers, collected from the responses on the way to it.
#[derive(Default)]
struct Said {
    etag: Option<String>,
    size: Option<u64>,
    commit: Option<String>,
}

impl Said {
    /// Headers of the Hub take precedence over those of other servers.
    fn note(&mut self, headers: &HeaderMap, at_hub: bool) {
        let etag = value(headers, "x-linked-etag").map(normal);
        let size = value(headers, "x-linked-size").and_then(|size| size.parse().ok());
        let commit = value(headers, "x-repo-commit").map(String::from);
        self.commit = self.commit.take().or(commit);
        if at_hub {
            (self.etag, self.size) = (etag.or(self.etag.take()), size.or(self.size));
        } else {
            (self.etag, self.size) = (self.etag.take().or(etag), self.size.or(size));
        }
    }

    fn answer(self, response: Response) -> Answer {
        let headers = response.headers();
        let whole = match response.status() {
            StatusCode::PARTIAL_CONTENT => value(headers, "content-range").and_then(|range| range.rsplit('/').next()),
            _ => value(headers, "content-length").filter(|_| encoding(headers).is_none()),
        };
        let size = self.size.or(whole.and_then(|size| size.parse().ok()));
        // The ETag of a redirect may be that of a page which says so.
        let etag = self.etag.or(value(headers, "etag").map(normal));
        Answer { etag, size, commit: self.commit, response }
    }
}

impl Answer {
    /// Whether the body is compressed; then a byte offset in it is no byte offset in the file.
    pub fn is_encoded(&self) -> bool {
        encoding(self.response.headers()).is_some()
    }

    /// Offset in the file of the body's first byte; none where `Content-Range` cannot be read.
    pub fn begins_at(&self) -> Option<u64> {
        if self.response.status() != StatusCode::PARTIAL_CONTENT {
            return Some(0);
        }
        let range = value(self.response.headers(), "content-range")?.strip_prefix("bytes")?.trim();
        range.split('-').next()?.parse().ok()
    }

    /// The body's own ETag with its quotes, where it is a strong one.
    pub fn strong_etag(&self) -> Option<String> {
        value(self.response.headers(), "etag").filter(|etag| etag.starts_with('"')).map(String::from)
    }

    /// The body, decoded.
    pub fn body(self) -> std::result::Result<Box<dyn Read>, Failure> {
        let (encoding, host) = (encoding(self.response.headers()), host(self.response.url()));
        let mut body: Box<dyn Read> = Box::new(self.response);
        for coding in encoding.iter().flat_map(|list| list.rsplit(',')).map(str::trim) {
            body = match coding {
                "identity" => body,
                "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(body)),
                "deflate" => inflated(body).map_err(|e| Failure::Broken(format!("{host}: {e}")))?,
                "zstd" => {
                    let decoder = zstd::Decoder::new(body).map_err(|e| Failure::Broken(format!("{host}: {e}")))?;
                    Box::new(decoder)
                }
                other => {
                    let message = format!("{host}: sent a body encoded as {other:?}, which was not asked for");
                    return Err(Failure::Final(message));
                }
            };
        }
        Ok(body)
    }
}

/// Decodes `deflate`, with the two header bytes of zlib, as the standard has it, or without them, as some servers send it.
fn inflated(body: Box<dyn Read>) -> std::io::Result<Box<dyn Read>> {
    let mut body = BufReader::new(body);
    let start = body.fill_buf()?;
    let is_zlib = start.len() > 1 && start[0] & 15 == 8 && u16::from_be_bytes([start[0], start[1]]) % 31 == 0;
    Ok(if is_zlib { Box::new(ZlibDecoder::new(body)) } else { Box::new(DeflateDecoder::new(body)) })
}

fn encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = value(headers, "content-encoding")?.trim().to_lowercase();
    (!encoding.is_empty() && encoding != "identity").then_some(encoding)
}

/// `W/"abc"` and `"abc"` are abc.
fn normal(etag: &str) -> String {
    let etag = etag.trim();
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_string()
}

fn bearer(token: Token) -> Result<(HeaderValue, String)> {
    let is_plain = token.value.chars().all(|c| c.is_ascii_graphic());
    let value = HeaderValue::from_str(&format!("Bearer {}", token.value)).ok().filter(|_| is_plain);
    let refused = || Error::invalid(format!("{}: expected a token in ASCII without blanks, got others", token.origin));
    let mut value = value.ok_or_else(refused)?;
    value.set_sensitive(true);
    Ok((value, token.origin))
}

fn proxy(scheme: &str, variable: &str, address: &str) -> Result<Proxy> {
    // `socks://`, as desktops write it, is version 5.
    let address = address.strip_prefix("socks://").map_or(address.to_string(), |rest| format!("socks5://{rest}"));
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    let made = if scheme == "http" { Proxy::http(&address) } else { Proxy::https(&address) };
    made.map_err(|_| {
        Error::invalid(format!("{variable}: expected the address of a proxy, such as http://proxy.example:3128"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_lose_their_quotes_and_weakness() {
        let cases = [("\"abc\"", "abc"), ("W/\"abc\"", "abc"), ("abc", "abc"), (" \"W/x\" ", "W/x"), ("Wabc", "Wabc")];
        assert!(cases.iter().all(|(raw, expected)| normal(raw) == *expected));
    }

    #[test]
    fn what_the_hub_says_of_a_linked_file_outlasts_the_redirect() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        let mut said = Said::default();
        let moved =
            [("etag", "W/\"page\""), ("x-linked-etag", "\"abc\""), ("x-linked-size", "7"), ("x-repo-commit", "c0")];
        said.note(&headers(&moved), true);
        said.note(&headers(&[("etag", "\"other\""), ("x-linked-size", "9")]), false);
        assert_eq!((said.etag.as_deref(), said.size, said.commit.as_deref()), (Some("abc"), Some(7), Some("c0")));
    }
}
