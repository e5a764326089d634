//! Plays an issuer of cert-manager: looks for Certificates and writes the Secrets
//! that they ask for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kubernetes::kinds::CERTIFICATE;
use crate::kubernetes::room::Room;

/// How often it looks for what it is asked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Who signs.
type Authority = Arc<CertifiedIssuer<'static, KeyPair>>;

/// An issuer at work.
pub struct Issuer {
    room: Room,
    authority: Authority,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Begins to work in a namespace, with an authority of its own.
    pub fn begin(room: &Room) -> Result<Self> {
        let authority = Arc::new(authority()?);
        let (issuer, here) = (authority.clone(), room.clone());
        let task = tokio::spawn(async move {
            loop {
                // What is not there yet, or has changed meanwhile, is looked at again.
                let _ = issue_all(&here, &issuer).await;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        Ok(Self {
            room: room.clone(),
            authority,
            task,
        })
    }

    /// Its authority's certificate.
    pub fn pem(&self) -> String {
        self.authority.pem()
    }

    /// Makes another certificate in place of one that was made, as when two
    /// thirds of its time are over; its bytes.
    pub async fn renew(&self, certificate: &str) -> Result<Vec<u8>> {
        let asked = CERTIFICATE.of(&self.room).get(certificate).await?;
        let issued = issue(&asked, &self.authority)?;
        let change = json!({"data": issued.data});
        self.room
            .merge::<Secret>(&issued.secret, change)
            .await
            .map(|()| issued.der)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let name = "an authority of a case";
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// What is made of a Certificate.
struct Issued {
    /// The Secret that it is asked into.
    secret: String,
    data: Value,
    der: Vec<u8>,
}

/// Issues what has not been issued yet, and says so in its status.
async fn issue_all(room: &Room, authority: &Authority) -> Result<()> {
    let certificates = CERTIFICATE.of(room);
    let secrets = room.api::<Secret>();
    for asked in certificates.list(&ListParams::default()).await? {
        let issued = issue(&asked, authority)?;
        if secrets.get_opt(&issued.secret).await?.is_some() {
            continue;
        }
        let labels = asked.data.pointer("/spec/secretTemplate/labels").cloned();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(issued.secret),
                labels: labels.map(serde_json::from_value).transpose()?,
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(serde_json::from_value(issued.data)?),
            ..Secret::default()
        };
        secrets.create(&PostParams::default(), &secret).await?;
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        certificates
            .patch(
                &asked.name_any(),
                &PatchParams::default(),
                &Patch::Merge(ready),
            )
            .await?;
    }
    Ok(())
}

/// A certificate for the names that are asked for, as cert-manager writes it.
fn issue(asked: &DynamicObject, authority: &Authority) -> Result<Issued> {
    let field = |path: &str| {
        let value = asked.data.pointer(path).cloned();
        value.with_context(|| format!("{} has no {path}", asked.name_any()))
    };
    let names: Vec<String> = serde_json::from_value(field("/spec/dnsNames")?)?;
    let secret: String = serde_json::from_value(field("/spec/secretName")?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, &**authority)?;
    let bytes = |text: String| ByteString(text.into_bytes());
    Ok(Issued {
        secret,
        data: json!({
            "tls.crt": bytes(certificate.pem()),
            "tls.key": bytes(key.serialize_pem()),
            "ca.crt": bytes(authority.pem()),
        }),
        der: certificate.der().to_vec(),
    })
}
