//! The way to the Hub: tokens, slashes, proxies, certificates, no network.

use super::proxy::Proxy;
use super::server::{Hub, Rules};
use super::{WEIGHTS, assert_whole, refused, stderr, stdout, with_model};
use crate::common::assert_says;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;

#[test]
fn the_token_goes_to_the_hub_alone() {
    let store = Hub::start(with_model("gated/model"));
    let hub = Hub::start(Rules { token: "secret", store: Some(store.address.clone()), ..with_model("gated/model") });
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("my token");
    fs::write(&file, "secret\r\n").unwrap();
    fs::write(hub.home.path().join("token"), "secret\n").unwrap();
    for variables in [
        &[("HF_TOKEN", " secret ")][..],
        &[("HUGGING_FACE_HUB_TOKEN", "secret"), ("HF_TOKEN", "")],
        &[("HF_TOKEN_PATH", file.to_str().unwrap())],
        &[],
    ] {
        assert_whole(&stdout(&hub.gist(&["fetch", "gated/model"], variables)), "with a token");
        let (asked, stored) = (hub.requests(), store.requests());
        assert!(asked.iter().all(|request| request.header("authorization") == Some("Bearer secret")), "{asked:?}");
        assert!(stored.len() == 1 && stored[0].path.ends_with(WEIGHTS), "{stored:?}");
        assert!(stored[0].header("authorization").is_none(), "the token was sent to another server");
        fs::remove_dir_all(hub.cache()).unwrap();
    }
    let variables = [("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HF_TOKEN", "secret")];
    assert_says(&refused(2, &hub.gist(&["fetch", "gated/model"], &variables)), &["no token was sent"], "not sent");
    let said = refused(2, &hub.gist(&["fetch", "gated/model"], &[("HF_TOKEN", "geh\u{e4}im")]));
    assert_says(&said, &["HF_TOKEN: expected a token in ASCII"], "no token");
}

#[test]
fn slashes_at_the_end_of_the_endpoint_make_no_difference() {
    let hub = Hub::start(with_model("tiny/base"));
    for slashes in ["/", "//"] {
        let endpoint = format!("{}{slashes}", hub.address);
        assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &[("HF_ENDPOINT", &endpoint)])), slashes);
        fs::remove_dir_all(hub.cache()).unwrap();
    }
    let said = refused(2, &hub.gist(&["fetch", "tiny/base"], &[("HF_ENDPOINT", "mirror.example")]));
    assert_says(
        &said,
        &["HF_ENDPOINT: expected an address such as https://huggingface.co", "mirror.example"],
        "no scheme",
    );
}

#[test]
fn without_a_network_the_message_says_so() {
    let hub = Hub::start(with_model("tiny/base"));
    for (arguments, variables) in [
        (&["fetch", "tiny/base"][..], &[("HF_HUB_OFFLINE", "1")][..]),
        (&["fetch", "tiny/base"], &[("TRANSFORMERS_OFFLINE", "yes")]),
        (&["fetch", "tiny/base", "--offline"], &[]),
    ] {
        let said = refused(2, &hub.gist(arguments, variables));
        assert_says(&said, &["tiny/base", "the cache lacks config.json", "gist fetch tiny/base"], "offline");
    }
    assert!(hub.requests().is_empty());
    let unreachable = hub.gist(&["fetch", "tiny/base"], &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    assert_says(&refused(1, &unreachable), &["tiny/base", "127.0.0.1:9 cannot be reached", "--offline"], "no network");
    assert_says(&stderr(&unreachable), &["(2 of 2)"], "asked again");
    // A server that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut process =
        hub.command(&["fetch", "tiny/base"], &[("HF_ENDPOINT", &endpoint), ("HF_HUB_DOWNLOAD_TIMEOUT", "1")]);
    let mut process = process.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stderr.take().unwrap()), &mut line).unwrap();
    process.kill().and_then(|()| process.wait()).unwrap();
    assert_says(&line, &["does not answer", "again in"], "silence");
}

#[test]
fn proxies_are_used_as_their_variables_say() {
    let hub = Hub::start(with_model("tiny/base"));
    let (proxy, endpoint) = (Proxy::start(&hub, None), [("HF_ENDPOINT", "http://hub.invalid")]);
    let fetch = |variables: &[(&str, &str)]| {
        let _ = fs::remove_dir_all(hub.cache());
        hub.gist(&["fetch", "tiny/base"], variables)
    };
    let address = format!("http://{}", proxy.address);
    for (name, value) in [("http_proxy", &address), ("HTTP_PROXY", &proxy.address), ("all_proxy", &address)] {
        assert_whole(&stdout(&fetch(&[&endpoint[..], &[(name, value)]].concat())), name);
        // An address without TLS is asked for in full, not by CONNECT, which proxies refuse for it.
        let asked = proxy.requests();
        assert!(!asked.is_empty() && asked.iter().all(|line| line.starts_with("GET http://hub.invalid/")), "{asked:?}");
    }
    for (name, hosts) in [("no_proxy", "localhost, 127.0.0.1"), ("NO_PROXY", "127.0.0.0/8"), ("no_proxy", "*")] {
        assert_whole(&stdout(&fetch(&[("http_proxy", &address), (name, hosts)])), name);
        assert!(proxy.requests().is_empty(), "{name}={hosts}");
    }
    let guarded = Proxy::start(&hub, Some("Basic bWU6YSBi")); // me:a b
    let with = format!("http://me:a%20b@{}", guarded.address);
    assert_whole(&stdout(&fetch(&[&endpoint[..], &[("http_proxy", &with)]].concat())), "a password");
    let without = format!("http://{}", guarded.address);
    let said = refused(2, &fetch(&[&endpoint[..], &[("http_proxy", &without)]].concat()));
    assert_says(&said, &["the proxy asks for a name and a password (status 407)"], "no password");
    let said = refused(2, &fetch(&[&endpoint[..], &[("http_proxy", "http://")]].concat()));
    assert_says(&said, &["http_proxy: expected the address of a proxy"], "no address");
}

/// A certificate with its key.
struct Made {
    pem: String,
    shown: CertificateDer<'static>,
    key: KeyPair,
    params: CertificateParams,
}

impl Made {
    fn new(name: &str, change: impl FnOnce(&mut CertificateParams), by: Option<&Made>) -> Made {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        change(&mut params);
        let made = match by {
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Made { pem: made.pem(), shown: made.der().clone(), key, params }
    }

    fn pair(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.shown.clone(), PrivateKeyDer::try_from(self.key.serialize_der()).unwrap())
    }
}

fn is_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let authority = Made::new("authority.example", is_authority, None);
    let server = Made::new("localhost", |_| (), Some(&authority));
    // As `openssl req -x509` makes one: for a server, and marked as an authority.
    let own = Made::new("localhost", is_authority, None);
    let old = |params: &mut CertificateParams| {
        is_authority(params);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    let old = Made::new("localhost", old, None);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_string()
    };
    let (authority, itself) = (file("authority.pem", &authority.pem), file("own.pem", &own.pem));
    let (expired, empty) = (file("old.pem", &old.pem), file("empty.pem", "nothing"));

    let hub = Hub::start_tls(with_model("tiny/base"), server.pair(), "https://localhost");
    let said = refused(2, &hub.gist(&["fetch", "tiny/base"], &[]));
    assert_says(&said, &["its certificate is not trusted", "SSL_CERT_FILE"], "nobody vouches");
    assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &[("SSL_CERT_FILE", &authority)])), "an authority");
    fs::remove_dir_all(hub.cache()).unwrap();
    let folders = [("SSL_CERT_DIR", folder.path().to_str().unwrap())];
    assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &folders)), "a folder of authorities");
    fs::remove_dir_all(hub.cache()).unwrap();
    for (value, expected) in [(empty.as_str(), "none is there in PEM format"), ("/no/such.pem", "No such file")] {
        let said = refused(2, &hub.gist(&["fetch", "tiny/base"], &[("SSL_CERT_FILE", value)]));
        assert_says(&said, &["SSL_CERT_FILE", value, expected], "no certificates");
    }
    // Through a proxy the host is asked by CONNECT, and is who shows the certificate.
    let proxy = Proxy::start(&hub, None);
    let port = hub.address.rsplit(':').next().unwrap();
    let variables = [("SSL_CERT_FILE", authority.as_str()), ("https_proxy", proxy.address.as_str())];
    assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &variables)), "a proxy");
    let asked = proxy.requests();
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line == &format!("CONNECT localhost:{port} HTTP/1.1")),
        "{asked:?}"
    );

    let hub = Hub::start_tls(with_model("tiny/base"), own.pair(), "https://localhost");
    let said = refused(2, &hub.gist(&["fetch", "tiny/base"], &[("SSL_CERT_FILE", &authority)]));
    assert_says(&said, &["its certificate is not trusted"], "signed by itself, not named");
    assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &[("SSL_CERT_FILE", &itself)])), "signed by itself");
    fs::remove_dir_all(hub.cache()).unwrap();
    let by_number = hub.address.replace("localhost", "127.0.0.1");
    let said =
        refused(2, &hub.gist(&["fetch", "tiny/base"], &[("SSL_CERT_FILE", &itself), ("HF_ENDPOINT", &by_number)]));
    assert_says(&said, &["its certificate is not trusted", "not valid for name"], "another name");
    let hub = Hub::start_tls(with_model("tiny/base"), old.pair(), "https://localhost");
    let said = refused(2, &hub.gist(&["fetch", "tiny/base"], &[("SSL_CERT_FILE", &expired)]));
    assert_says(&said, &["its certificate is not trusted", "expired"], "too old");
}
