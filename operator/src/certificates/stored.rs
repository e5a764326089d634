//! The Secrets that a cluster's certificates are kept in, and what is in them.

use std::collections::BTreeMap;

use holdfast_plan::{names, tls};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::decide::{Issued, Own, Part, Sight};
use super::reading::{Certificate, Leaf};
use crate::context::Context;
use crate::error::{Attempt, OperatorError};
use crate::observe::{Observed, read_secret};

/// The key of the authority's Secret with the one that takes its place.
pub const NEXT_CERTIFICATE_KEY: &str = "next.crt";
/// The key with what that one signs with.
pub const NEXT_PRIVATE_KEY_KEY: &str = "next.key";
/// The annotation of a Secret with the wish that its exchange was begun for.
pub const BEGUN_FOR: &str = "holdfast.dev/rotated";

/// The Secrets, as the API server had them at one moment.
#[derive(Clone, Default)]
pub struct Stored {
    /// Our own authority, with what it signs with.
    pub authority: Option<Secret>,
    /// The authorities that are trusted.
    pub trusted: Option<Secret>,
    /// Those that carry the cluster's labels, by name: the parts' among them.
    labelled: BTreeMap<String, Secret>,
}

impl Stored {
    /// Reads them.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn read(
        context: &Context,
        namespace: &str,
        name: &str,
    ) -> Result<Self, OperatorError> {
        let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
        let params = ListParams::default().labels(&names::instance_selector(name));
        let (authority, trusted, listed) = tokio::try_join!(
            read_secret(context, namespace, names::ca_key_secret(name)),
            read_secret(context, namespace, names::ca_secret(name)),
            async {
                let list = api.list(&params).await;
                list.attempt(|| "listing secrets".into())
            },
        )?;
        let listed = listed.items.into_iter();
        Ok(Self {
            authority,
            trusted,
            labelled: listed.map(|secret| (secret.name_any(), secret)).collect(),
        })
    }

    /// The version of the Secret with our own authority.
    pub fn version(&self) -> Option<String> {
        self.authority.as_ref()?.resource_version()
    }

    /// The authorities that are trusted.
    pub fn authorities(&self) -> Vec<Certificate> {
        authorities(self.trusted.as_ref())
    }

    /// What is in them, beside what is asked for.
    pub fn sight(&self, observed: &Observed, wish: Option<String>, now: i64) -> Sight {
        let (name, namespace) = (&observed.name, &observed.namespace);
        let spec = &observed.resource.spec;
        let secret = |name: String| self.labelled.get(&name);
        let parts = tls::parts(spec).into_iter().map(|part| {
            let read = Part {
                names: tls::dns_names(name, namespace, spec, part)
                    .into_iter()
                    .collect(),
                mounted: leaf(secret(names::certificate_secret(name, part))),
                issued: issued(secret(names::issued_secret(name, part))),
            };
            (part, read)
        });
        Sight {
            mode: spec.tls.mode,
            wish,
            own: own_of(self.authority.as_ref()),
            trusted: self.authorities(),
            parts: parts.collect(),
            reports: None,
            has_cert_manager: observed.kinds.certificate,
            now,
        }
    }
}

fn leaf(secret: Option<&Secret>) -> Option<Leaf> {
    Leaf::read(
        Observed::text(secret, names::CERTIFICATE_KEY),
        Observed::text(secret, names::PRIVATE_KEY_KEY),
    )
}

fn issued(secret: Option<&Secret>) -> Option<Issued> {
    Some(Issued {
        leaf: leaf(secret)?,
        authorities: authorities(secret),
    })
}

/// The authorities that a Secret says to trust.
fn authorities(secret: Option<&Secret>) -> Vec<Certificate> {
    let text = Observed::text(secret, names::AUTHORITIES_KEY);
    Certificate::all(text.unwrap_or_default().as_bytes())
}

fn own_of(secret: Option<&Secret>) -> Own {
    Own {
        current: leaf(secret),
        next: Leaf::read(
            Observed::text(secret, NEXT_CERTIFICATE_KEY),
            Observed::text(secret, NEXT_PRIVATE_KEY_KEY),
        ),
        begun_for: secret.and_then(|secret| secret.annotations().get(BEGUN_FOR).cloned()),
    }
}
