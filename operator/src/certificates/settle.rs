//! Has it decided what is to be written into the Secrets, and writes it.

use std::collections::BTreeMap;

use holdfast_plan::names::{self, Component};
use holdfast_plan::tls;
use holdfast_runtime::Entropy;
use holdfast_runtime::host::system::SystemEntropy;
use holdfast_runtime::host::tls::{Authorities, Trust};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use rcgen::KeyPair;
use serde_json::json;

use super::decide::{Own, Sight, Verdict, Write, decide};
use super::making::{Chance, MakingError, SERIAL_BYTES, make_authority, make_leaf};
use super::reading::{Certificate, Leaf, to_pem};
use super::stored::{BEGUN_FOR, NEXT_CERTIFICATE_KEY, NEXT_PRIVATE_KEY_KEY, Stored};
use crate::apply::by_us;
use crate::context::Context;
use crate::error::{Attempt, OperatorError, is_conflict};
use crate::loaded::{Reports, ask_pods};
use crate::observe::Observed;

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
    // Mostly there is nothing to do, and what the round began with says so. What is
    // written, or asked for, is decided of what is there just before.
    let sight = observed.certificates.sight(observed, wish.clone(), now);
    settled.verdict = decide(&sight);
    if !settled.verdict.ask && settled.verdict.writes.is_empty() {
        return Ok(settled);
    }
    for _ in 0..MAX_WRITES_A_ROUND {
        let stored = Stored::read(context, &observed.namespace, &observed.name).await?;
        let mut sight = stored.sight(observed, wish.clone(), now);
        sight.reports = settled.reports.take();
        settled.verdict = decide(&sight);
        if settled.verdict.ask {
            sight.reports = Some(ask(observed, &sight.trusted).await);
            settled.verdict = decide(&sight);
        }
        for one in &settled.verdict.writes {
            write(context, observed, &sight, stored.version().as_ref(), one).await?;
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
