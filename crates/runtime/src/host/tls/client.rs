//! The client's side: whom it believes, by what is loaded when it connects.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::Authorities;
use super::watched::Watched;
use super::{TlsError, provider, unusable};

/// Whom a client believes. Names are always verified.
#[derive(Clone, Debug)]
pub enum Trust {
    /// These authorities and nobody else.
    Only(Arc<Watched<Authorities>>),
    /// Those that the system trusts, and these where there are some.
    System(Option<Arc<Watched<Authorities>>>),
}

impl Trust {
    /// Believes `authorities`, which do not change.
    pub fn only(authorities: Authorities) -> Self {
        Self::Only(Arc::new(Watched::fixed("authority", authorities)))
    }

    /// What rustls connects with. It follows what is loaded.
    ///
    /// # Errors
    /// When the versions of TLS are not to be had.
    pub fn config(&self) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believer(self.clone())))
            .with_no_client_auth();
        // A resumed session is not verified again.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Connects and shakes hands; only with whom shows the name `host`.
    ///
    /// # Errors
    /// When nobody is there, or it is somebody else.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let config = self.config().map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await
    }

    /// The authorities that are believed beside the system's, for libraries
    /// that bring a client of their own.
    pub fn own_pem(&self) -> Option<String> {
        match self {
            Self::Only(own) | Self::System(Some(own)) => Some(own.now().pem().to_owned()),
            Self::System(None) => None,
        }
    }

    fn verifier(&self) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let own = match self {
            Self::Only(own) => return Ok(own.now().verifier()),
            Self::System(own) => own.as_ref().map(|own| own.now()),
        };
        let mut roots = system_roots().clone();
        let own = own.iter().flat_map(|own| own.certificates());
        roots.add_parsable_certificates(own.cloned());
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            // There is nobody to believe.
            .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}

/// A client for HTTP, which calls nobody through a proxy.
///
/// # Errors
/// As [`Trust::config`].
pub fn http_client(trust: &Trust) -> Result<reqwest::ClientBuilder, TlsError> {
    let client = reqwest::Client::builder().no_proxy();
    Ok(client.tls_backend_preconfigured(trust.config()?))
}

/// Read once: a process that is to believe others is started again.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "some of the system's authorities cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

/// Asks whoever is to be believed at the time.
#[derive(Debug)]
struct Believer(Trust);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verifier()?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
