//! Whom a connection trusts: the certificates that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, else those of the system, else
//! Mozilla's, which come with the program.

use crate::error::{Error, Result};
use crate::hub::settings::Settings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::load_certs_from_paths;
use std::sync::Arc;

/// TLS with the trusted certificates of these settings.
pub fn config(settings: &Settings) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let (mut roots, own) = (RootCertStore::empty(), trusted(settings)?);
    if own.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(own.iter().cloned());
    let failed = |error: &dyn std::fmt::Display| Error::invalid(format!("trusted certificates: {error}"));
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = Verifier { usual: usual.map_err(|e| failed(&e))?, own };
    let config = ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>);
    let config = config.with_safe_default_protocol_versions().map_err(|e| failed(&e))?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The certificates of the user or of the system; none where there is no store.
fn trusted(settings: &Settings) -> Result<Vec<CertificateDer<'static>>> {
    let (mut file, mut folders) = settings.certificates();
    let is_named = file.is_some() || !folders.is_empty();
    if !is_named {
        let system = openssl_probe::probe();
        (file, folders) = (system.cert_file, system.cert_dir);
    }
    let mut loaded = load_certs_from_paths(file.as_deref(), None);
    for folder in &folders {
        let more = load_certs_from_paths(None, Some(folder));
        loaded.certs.extend(more.certs);
        loaded.errors.extend(more.errors);
    }
    if is_named && loaded.certs.is_empty() {
        let named: Vec<String> = file.iter().chain(&folders).map(|path| path.display().to_string()).collect();
        let mut why: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        if why.is_empty() {
            why.push("none is there in PEM format".into());
        }
        let (named, why) = (named.join(", "), why.join("; "));
        return Err(Error::invalid(format!("SSL_CERT_FILE and SSL_CERT_DIR: expected certificates in {named}: {why}")));
    }
    Ok(loaded.certs)
}

/// The usual rules, and one more that OpenSSL has too: a server may show a certificate that is itself trusted, as who signs
/// their own for a mirror (`openssl req -x509`) has it, though it is marked as that of an authority.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verdict = self.usual.verify_server_cert(shown, between, name, ocsp, now);
        match &verdict {
            // Dates are checked before this is said.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if why.0.to_string() == "CaUsedAsEndEntity" =>
            {
                if !self.own.iter().any(|own| own == shown) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            _ => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, shown, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
