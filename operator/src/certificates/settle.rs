//! Reads the Secrets, has it decided what to write, and writes it.

use std::collections::BTreeMap;

use holdfast_plan::names::{self, Component};
use holdfast_plan::tls;
use holdfast_runtime::Entropy;
use holdfast_runtime::host::system::SystemEntropy;
use holdfast_runtime::host::tls::{Authorities, Trust};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use rcgen::KeyPair;
use serde_json::json;

use super::decide::{Issued, Own, Part, Sight, Verdict, Write, decide};
use super::making::{Chance, MakingError, SERIAL_BYTES, make_authority, make_leaf};
use super::reading::{Certificate, Leaf, to_pem};
use crate::apply::by_us;
use crate::context::Context;
use crate::error::{Attempt, OperatorError, is_conflict};
use crate::loaded::{Reports, ask_pods};
use crate::observe::{Observed, read_secret};

/// The keys of the authority's Secret with the one that takes its place.
const NEXT_CERTIFICATE_KEY: &str = "next.crt";
const NEXT_PRIVATE_KEY_KEY: &str = "next.key";
/// The annotation of a Secret with the wish that its exchange was begun for.
pub const BEGUN_FOR: &str = "holdfast.dev/rotated";
/// Writes one after the other in a round: those of a birth, and some more.
const MAX_WRITES_A_ROUND: usize = 8;

/// What came of it.
#[derive(Default)]
pub struct Settled {
    /// What was decided last.
    pub verdict: Verdict,
    /// What pods have loaded, where they had to be asked.
    pub reports: Option<Reports>,
}

/// Brings the certificates as far as they can be brought now.
///
/// # Errors
/// When the API server refuses, or no certificate can be made.
pub async fn settle(
    context: &Context,
    observed: &Observed,
    wish: Option<String>,
    now: i64,
) -> Result<Settled, OperatorError> {
    let mut settled = Settled::default();
    if !tls::is_on(&observed.resource.spec) {
        settled.verdict.done = true;
        return Ok(settled);
    }
    for _ in 0..MAX_WRITES_A_ROUND {
        let (mut sight, version) = read(context, observed, wish.clone(), now).await?;
        sight.reports = settled.reports.take();
        settled.verdict = decide(&sight);
        if settled.verdict.ask {
            sight.reports = Some(ask(observed, &sight.trusted).await);
            settled.verdict = decide(&sight);
        }
        for one in &settled.verdict.writes {
            write(context, observed, &sight, version.as_ref(), one).await?;
        }
        settled.reports = sight.reports;
        if settled.verdict.writes.is_empty() {
            break;
        }
    }
    Ok(settled)
}

/// Asks all pods what they have loaded.
pub async fn ask(observed: &Observed, trusted: &[Certificate]) -> Reports {
    ask_pods(&observed.name, &observed.pods, trusting(trusted)).await
}

/// What trusts these authorities and no others; `None` of none.
pub fn trusting(authorities: &[Certificate]) -> Option<Trust> {
    let authorities = Authorities::from_pem(to_pem(authorities).as_bytes()).ok()?;
    Some(Trust::only(authorities))
}

/// What is there; and the version of the Secret with our own authority.
async fn read(
    context: &Context,
    observed: &Observed,
    wish: Option<String>,
    now: i64,
) -> Result<(Sight, Option<String>), OperatorError> {
    let (name, namespace) = (&observed.name, &observed.namespace);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let labelled = ListParams::default().labels(&names::instance_selector(name));
    let (own, trusted, listed) = tokio::try_join!(
        read_secret(context, namespace, names::ca_key_secret(name)),
        read_secret(context, namespace, names::ca_secret(name)),
        async {
            let list = api.list(&labelled).await;
            list.attempt(|| "listing secrets".into())
        },
    )?;
    let listed: BTreeMap<String, Secret> = listed
        .items
        .into_iter()
        .map(|secret| (secret.name_any(), secret))
        .collect();
    let spec = &observed.resource.spec;
    let parts = tls::parts(spec).into_iter().map(|part| {
        let read = Part {
            names: tls::dns_names(name, namespace, spec, part)
                .into_iter()
                .collect(),
            mounted: leaf(listed.get(&names::certificate_secret(name, part))),
            issued: issued(listed.get(&names::issued_secret(name, part))),
        };
        (part, read)
    });
    let sight = Sight {
        mode: spec.tls.mode,
        wish,
        own: own_of(own.as_ref()),
        trusted: authorities(trusted.as_ref()),
        parts: parts.collect(),
        reports: None,
        has_cert_manager: observed.kinds.certificate,
        now,
    };
    Ok((sight, own.and_then(|secret| secret.resource_version())))
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
pub fn authorities(secret: Option<&Secret>) -> Vec<Certificate> {
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

async fn write(
    context: &Context,
    observed: &Observed,
    sight: &Sight,
    version: Option<&String>,
    order: &Write,
) -> Result<(), OperatorError> {
    let name = &observed.name;
    let own = &sight.own;
    tracing::info!(
        namespace = observed.namespace,
        name,
        order = label(order),
        "certificates"
    );
    match order {
        Write::Authority { next } => {
            let whose = format!("{}/{name}", observed.namespace);
            let made = make_authority(&whose, &chance()?, sight.now).map_err(failed)?;
            let begun_for = sight.wish.clone();
            let made = match next {
                true => Own {
                    next: Some(made),
                    current: own.current.clone(),
                    begun_for,
                },
                false => Own {
                    current: Some(made),
                    next: None,
                    begun_for,
                },
            };
            write_own(context, observed, &made, version).await
        }
        Write::Promote => {
            let made = Own {
                current: own.next.clone(),
                next: None,
                begun_for: own.begun_for.clone(),
            };
            write_own(context, observed, &made, version).await
        }
        Write::Trust(authorities) => {
            let data = [(names::AUTHORITIES_KEY, to_pem(authorities))];
            let secret = names::ca_secret(name);
            apply(context, observed, secret, Component::Cluster, None, &data).await
        }
        Write::Make(part) => {
            let authority = own.next.as_ref().or(own.current.as_ref());
            let authority = authority.ok_or_else(|| failed(MakingError::NoAuthority))?;
            let wanted = sight.parts.get(part).map(|part| &part.names);
            let dns_names: Vec<String> = wanted.into_iter().flatten().cloned().collect();
            let workload = names::workload(name, *part);
            let made = make_leaf(&workload, &dns_names, authority, &chance()?, sight.now);
            write_leaf(context, observed, *part, &made.map_err(failed)?).await
        }
        Write::Take(part) => {
            let issued = sight.parts.get(part).and_then(|part| part.issued.as_ref());
            match issued {
                Some(issued) => write_leaf(context, observed, *part, &issued.leaf).await,
                None => Ok(()),
            }
        }
    }
}

fn label(order: &Write) -> String {
    match order {
        Write::Authority { next: false } => "the first authority".into(),
        Write::Authority { next: true } => "a new authority".into(),
        Write::Trust(authorities) => format!("{} authorities are trusted", authorities.len()),
        Write::Make(part) => format!("a new certificate of {}", part.as_str()),
        Write::Take(part) => format!("the issuer's certificate of {}", part.as_str()),
        Write::Promote => "the new authority is the one".into(),
    }
}

fn failed(error: MakingError) -> OperatorError {
    OperatorError::Malformed(error.to_string())
}

fn chance() -> Result<Chance, OperatorError> {
    let mut serial = [0; SERIAL_BYTES];
    SystemEntropy.fill(&mut serial);
    // A certificate's number is positive, and not 0 (RFC 5280, 4.1.2.2).
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    let key = KeyPair::generate().map_err(|error| failed(error.into()))?;
    Ok(Chance { key, serial })
}

/// The Secret with the authority's key is made once, and then changed only from
/// the version that was read: nobody's key is lost to a late write.
async fn write_own(
    context: &Context,
    observed: &Observed,
    own: &Own,
    version: Option<&String>,
) -> Result<(), OperatorError> {
    let name = names::ca_key_secret(&observed.name);
    let texts = [
        (
            names::CERTIFICATE_KEY,
            own.current.as_ref().map(|leaf| &leaf.chain_pem),
        ),
        (
            names::PRIVATE_KEY_KEY,
            own.current.as_ref().map(|leaf| &leaf.key_pem),
        ),
        (
            NEXT_CERTIFICATE_KEY,
            own.next.as_ref().map(|leaf| &leaf.chain_pem),
        ),
        (
            NEXT_PRIVATE_KEY_KEY,
            own.next.as_ref().map(|leaf| &leaf.key_pem),
        ),
    ];
    let data: BTreeMap<&str, Option<ByteString>> = texts
        .into_iter()
        .map(|(key, text)| (key, text.map(|text| ByteString(text.clone().into_bytes()))))
        .collect();
    let metadata = json!({
        "name": name,
        "labels": names::labels(&observed.name, Component::Cluster),
        "annotations": {BEGUN_FOR: own.begun_for},
        "resourceVersion": version,
    });
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let body = json!({"metadata": metadata, "data": data});
    if version.is_some() {
        // Nulls take away.
        return api
            .patch(&name, &by_us(), &Patch::Merge(body))
            .await
            .map(|_| ())
            .attempt(|| format!("changing Secret {name}"));
    }
    let mut body = body;
    holdfast_plan::without_nulls(&mut body);
    let secret: Secret = serde_json::from_value(body)
        .map_err(|error| OperatorError::Malformed(error.to_string()))?;
    match api.create(&PostParams::default(), &secret).await {
        Err(error) if is_conflict(&error) => Ok(()),
        made => made.map(|_| ()).attempt(|| format!("making Secret {name}")),
    }
}

async fn write_leaf(
    context: &Context,
    observed: &Observed,
    part: Component,
    leaf: &Leaf,
) -> Result<(), OperatorError> {
    let data = [
        (names::CERTIFICATE_KEY, leaf.chain_pem.clone()),
        (names::PRIVATE_KEY_KEY, leaf.key_pem.clone()),
    ];
    let secret = names::certificate_secret(&observed.name, part);
    // It goes with the resource, and is made again with it.
    let owner = observed.resource.controller_owner_ref(&());
    let owner = owner.map(|owner| json!([owner]));
    apply(context, observed, secret, part, owner, &data).await
}

async fn apply(
    context: &Context,
    observed: &Observed,
    name: String,
    part: Component,
    owners: Option<serde_json::Value>,
    data: &[(&str, String)],
) -> Result<(), OperatorError> {
    let data: BTreeMap<&str, ByteString> = data
        .iter()
        .map(|(key, text)| (*key, ByteString(text.clone().into_bytes())))
        .collect();
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": names::labels(&observed.name, part),
            "ownerReferences": owners,
        },
        "data": data,
    });
    holdfast_plan::without_nulls(&mut object);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &observed.namespace);
    let params = PatchParams::apply(names::MANAGED_BY).force();
    api.patch(&name, &params, &Patch::Apply(&object))
        .await
        .map(|_| ())
        .attempt(|| format!("writing Secret {name}"))
}
