//! Headers and addresses as text.

use reqwest::Url;
use reqwest::header::HeaderMap;

/// A header's text.
pub fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Name and port of a server.
pub fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or(name.to_string(), |port| format!("{name}:{port}"))
}
