//! Certificates for tests, and connections by them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::host::serve::{Encrypted, ServeLimits, serve_encrypted};
use crate::host::tls::server::{HANDSHAKE_DEADLINE, Versions};
use crate::{Credential, Shutdown};

/// An authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What it has issued.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

const LIMITS: ServeLimits = ServeLimits {
    name: "test",
    connections: 10,
    head_deadline: Duration::from_secs(15),
    buffer_bytes: 64 << 10,
    headers: 100,
    drain: Duration::from_secs(10),
};

fn write(dir: &Path, issued: &Issued, authorities: &str) {
    fs::write(dir.join("tls.crt"), &issued.chain).unwrap();
    fs::write(dir.join("tls.key"), &issued.key).unwrap();
    fs::write(dir.join("ca.crt"), authorities).unwrap();
}

/// A process with certificates in a directory, which serves with them.
struct Site {
    dir: tempfile::TempDir,
    security: Security,
    at: SocketAddr,
    shutdown: Shutdown,
    served: tokio::task::JoinHandle<()>,
}

impl Site {
    async fn start(issued: &Issued, authorities: &str, versions: Versions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), issued, authorities);
        let places = Places {
            tls_dir: Some(dir.path()),
            public_tls_dir: Some(dir.path()),
            is_called: true,
        };
        let security = Security::open(Credential::fixed("a credential"), places).unwrap();
        let acceptor = match versions {
            Versions::One => security.internal(),
            Versions::OneAndTwo => security.public(),
        };
        let answer = async |request: Request| {
            assert!(request.extensions().get::<Encrypted>().is_some());
            let host = request.headers().get("host").unwrap().to_str().unwrap();
            format!("{:?} {host}", request.version())
        };
        let router = Router::new().route("/", get(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let end = shutdown.clone();
        let serving = serve_encrypted(listener, acceptor.unwrap(), router, LIMITS, async move {
            end.begun().await;
        });
        let served = tokio::spawn(serving);
        Self {
            dir,
            security,
            at,
            shutdown,
            served,
        }
    }

    fn exchange(&self, issued: &Issued, authorities: &str) {
        write(self.dir.path(), issued, authorities);
        self.security.look();
    }

    fn loaded(&self, which: &str) -> serde_json::Value {
        self.security.loaded()["tls"][which].clone()
    }
}

fn trusting(pem: &str) -> Trust {
    Trust::only(Authorities::from_pem(pem.as_bytes()).unwrap())
}

async fn ask(trust: &Trust, host: &str, at: SocketAddr) -> Result<String, String> {
    let client = http_client(trust).unwrap().build().unwrap();
    let url = format!("https://{host}:{}/", at.port());
    match client.get(url).send().await {
        Ok(answer) => Ok(answer.text().await.unwrap()),
        Err(error) => Err(format!("{error:?}")),
    }
}

#[tokio::test]
async fn only_who_shakes_hands_and_believes_the_authority_is_answered() {
    let (ours, other) = (Authority::new(), Authority::new());
    let site = Site::start(&ours.issue("127.0.0.1"), &ours.pem(), Versions::One).await;
    let answer = ask(&trusting(&ours.pem()), "127.0.0.1", site.at).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 127.0.0.1"));
    for (trust, host) in [
        (trusting(&other.pem()), "127.0.0.1"),
        (Trust::System(None), "127.0.0.1"),
        (trusting(&ours.pem()), "localhost"),
    ] {
        let refused = ask(&trust, host, site.at).await.unwrap_err();
        assert!(refused.contains("InvalidCertificate"), "{refused}");
    }
    let mut plain = TcpStream::connect(site.at).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn what_is_exchanged_is_shown_to_new_connections_and_old_ones_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let first = old.issue("127.0.0.1");
    let site = Site::start(&first, &old.pem(), Versions::One).await;
    let both = format!("{}{}", old.pem(), new.pem());
    let believes_old = trusting(&old.pem());
    let kept = http_client(&believes_old).unwrap().build().unwrap();
    let url = format!("https://127.0.0.1:{}/", site.at.port());
    let fetch = async || kept.get(&url).send().await.unwrap().text().await.unwrap();
    fetch().await;

    let before = site.loaded("internal");
    // Half of what is written does not count.
    fs::write(
        site.dir.path().join("tls.crt"),
        &new.issue("127.0.0.1").chain,
    )
    .unwrap();
    site.security.look();
    assert_eq!(site.loaded("internal"), before);

    site.exchange(&new.issue("127.0.0.1"), &both);
    assert_ne!(site.loaded("internal"), before);
    assert_eq!(site.loaded("authorities").as_array().unwrap().len(), 2);
    fetch().await;
    assert!(ask(&believes_old, "127.0.0.1", site.at).await.is_err());
    ask(&trusting(&both), "127.0.0.1", site.at).await.unwrap();
}

#[tokio::test]
async fn a_client_follows_its_authorities() {
    let (old, new) = (Authority::new(), Authority::new());
    let site = Site::start(&new.issue("127.0.0.1"), &old.pem(), Versions::One).await;
    let trust = Trust::Only(site.security.authorities());
    assert!(ask(&trust, "127.0.0.1", site.at).await.is_err());
    fs::write(site.dir.path().join("ca.crt"), new.pem()).unwrap();
    site.security.look();
    ask(&trust, "127.0.0.1", site.at).await.unwrap();
}

#[tokio::test]
async fn clients_are_answered_over_http_2_when_they_ask_for_it() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let site = Site::start(&issued, &authority.pem(), Versions::OneAndTwo).await;
    let mut config = trusting(&authority.pem()).config().unwrap();
    config.alpn_protocols = vec![b"h2".into()];
    let stream = TcpStream::connect(site.at).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let (mut client, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get("https://localhost/").body(String::new());
    let answer = client.send_request(request.unwrap()).await.unwrap();
    let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 100).await;
    assert_eq!(body.unwrap(), "HTTP/2.0 localhost");
    // Its end is an orderly one, also while connections are open.
    site.shutdown.begin();
    tokio::time::timeout(LIMITS.drain / 2, site.served)
        .await
        .expect("it did not end")
        .unwrap();
}

#[tokio::test]
async fn who_does_not_shake_hands_holds_nobody_up_and_is_closed() {
    let authority = Authority::new();
    let issued = authority.issue("127.0.0.1");
    let site = Site::start(&issued, &authority.pem(), Versions::One).await;
    let mut silent = TcpStream::connect(site.at).await.unwrap();
    let trust = trusting(&authority.pem());
    ask(&trust, "127.0.0.1", site.at).await.unwrap();
    let mut nothing = Vec::new();
    let closed = silent.read_to_end(&mut nothing);
    let limit = HANDSHAKE_DEADLINE + Duration::from_secs(10);
    let _ = tokio::time::timeout(limit, closed)
        .await
        .expect("it is open still");
}

#[test]
fn a_directory_that_cannot_be_used_is_told_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let open = |places| Security::open(Credential::fixed("a credential"), places);
    let places = Places {
        tls_dir: Some(dir.path()),
        ..Places::default()
    };
    let refused = open(places).unwrap_err().0;
    assert!(
        refused.contains("HOLDFAST_TLS_DIR") && refused.contains("ca.crt"),
        "{refused}"
    );
    fs::write(dir.path().join("ca.crt"), Authority::new().pem()).unwrap();
    // Who is not called needs no certificate.
    open(places).unwrap();
    let called = Places {
        is_called: true,
        ..places
    };
    let refused = open(called).unwrap_err().0;
    assert!(refused.contains("tls.crt"), "{refused}");
}
