//! What to write next, of what the Secrets hold and what pods have loaded: pure.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_crd::{RotationStatus, TlsMode};
use holdfast_plan::names::Component;

use super::reading::{Certificate, Leaf};
use crate::loaded::{Loaded, Reports, those_not};

/// As the status calls it.
pub const AUTHORITY: &str = "Authority";
/// The steps, as the status has them.
pub const ADDING: &str = "Adding";
/// Every part gets the new one.
pub const SWITCHING: &str = "Switching";
/// The old one goes.
pub const REMOVING: &str = "Removing";
/// The reason while an issuer has not made what it was asked for.
pub const WAITING: &str = "WaitingForCertificates";
/// The most authorities that are trusted at the same time: an issuer that has
/// another one every day is no authority.
const MAX_TRUSTED: usize = 8;

/// What is there of a cluster's certificates.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Where certificates come from.
    pub mode: TlsMode,
    /// What was asked for by annotation, where it is not done yet.
    pub wish: Option<String>,
    /// Our own authority.
    pub own: Own,
    /// What is trusted, as its Secret has it.
    pub trusted: Vec<Certificate>,
    /// The parts that have a certificate.
    pub parts: BTreeMap<Component, Part>,
    /// What pods have loaded, where they were asked.
    pub reports: Option<Reports>,
    /// Whether cert-manager's kind is there.
    pub has_cert_manager: bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// Our own authority, as its Secret has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The one that signs.
    pub current: Option<Leaf>,
    /// The one that takes its place.
    pub next: Option<Leaf>,
    /// The wish for which the newest was made.
    pub begun_for: Option<String>,
}

/// The certificate of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The names that it must have.
    pub names: BTreeSet<String>,
    /// What its pods mount.
    pub mounted: Option<Leaf>,
    /// What cert-manager has made.
    pub issued: Option<Issued>,
}

/// What cert-manager has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub leaf: Leaf,
    /// The authorities that it says to trust.
    pub authorities: Vec<Certificate>,
}

/// Something to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new authority: the first one, or the one that takes its place.
    Authority {
        /// Whether there is one before it.
        next: bool,
    },
    /// What is trusted.
    Trust(Vec<Certificate>),
    /// A part's certificate, to be made by the newest authority.
    Make(Component),
    /// A part's certificate, as cert-manager has made it.
    Take(Component),
    /// The next authority is the one, and the old one's key goes.
    Promote,
}

impl Issued {
    /// The authorities that have signed it.
    fn signers(&self) -> Vec<Certificate> {
        let all = self.authorities.iter().cloned();
        all.filter(|one| self.leaf.is_of(std::slice::from_ref(one)))
            .collect()
    }
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// What to write, in any order.
    pub writes: Vec<Write>,
    /// Whether pods must be asked before more can be decided.
    pub ask: bool,
    /// The exchange of an authority that is under way.
    pub rotation: Option<RotationStatus>,
    /// What is waited for before there are certificates: a reason and a sentence.
    pub missing: Option<(&'static str, String)>,
    /// Whether what was wished for is done.
    pub done: bool,
}

impl Verdict {
    fn missing(reason: &'static str, sentence: String) -> Self {
        Self {
            missing: Some((reason, sentence)),
            ..Self::default()
        }
    }

    fn writing(writes: Vec<Write>) -> Self {
        Self {
            writes,
            ..Self::default()
        }
    }

    fn step(mut self, step: &str, waiting_for: Vec<String>) -> Self {
        self.rotation = Some(rotation(AUTHORITY, step, waiting_for));
        self
    }
}

/// An exchange as the status has it.
pub fn rotation(credential: &str, step: &str, waiting_for: Vec<String>) -> RotationStatus {
    RotationStatus {
        credential: credential.into(),
        step: step.into(),
        // As many as the schema takes.
        waiting_for: waiting_for.into_iter().take(512).collect(),
    }
}

/// Decides what to write.
pub fn decide(sight: &Sight) -> Verdict {
    match sight.mode {
        TlsMode::Disabled => Verdict {
            done: true,
            ..Verdict::default()
        },
        TlsMode::Managed => decide_managed(sight),
        TlsMode::CertManager => match wanted_of_issuer(sight) {
            Ok(wanted) => exchange(sight, &wanted),
            Err((reason, sentence)) => Verdict::missing(reason, sentence),
        },
    }
}

fn decide_managed(sight: &Sight) -> Verdict {
    let own = &sight.own;
    let certificate = |leaf: &Option<Leaf>| leaf.as_ref().and_then(Leaf::certificate).cloned();
    let Some(current) = certificate(&own.current) else {
        return Verdict::writing(vec![Write::Authority { next: false }]);
    };
    if let Some(next) = certificate(&own.next) {
        return exchange(sight, &[next]);
    }
    let wished = sight.wish.is_some() && sight.wish != own.begun_for;
    let begins = wished || sight.now >= current.renew_at();
    let verdict = exchange(sight, &[current]);
    // What is under way ends first: there are never three.
    if begins && verdict.done {
        return Verdict::writing(vec![Write::Authority { next: true }]).step(ADDING, Vec::new());
    }
    verdict
}

/// The authorities of what cert-manager has made, when all of it is there.
fn wanted_of_issuer(sight: &Sight) -> Result<Vec<Certificate>, (&'static str, String)> {
    if !sight.has_cert_manager {
        return Err((
            "CertManagerMissing",
            "spec.tls.mode is CertManager, and this Kubernetes has no kind Certificate of cert-manager.io/v1: install cert-manager, or set the mode to Managed".into(),
        ));
    }
    let mut wanted: Vec<Certificate> = Vec::new();
    let mut awaited = Vec::new();
    for (part, certificate) in &sight.parts {
        let Some(issued) = &certificate.issued else {
            awaited.push(part.as_str());
            continue;
        };
        if !issued.leaf.is_of(&issued.authorities) {
            return Err((
                "AuthorityMissing",
                format!(
                    "the certificate of {} comes without the authority that signed it (ca.crt): use an issuer that gives it, as of the kinds CA and Vault; ACME gives none for names inside of Kubernetes",
                    part.as_str()
                ),
            ));
        }
        for authority in &issued.authorities {
            if !wanted.contains(authority) {
                wanted.push(authority.clone());
            }
        }
    }
    if !awaited.is_empty() {
        return Err((
            WAITING,
            format!(
                "cert-manager has not made the certificates of {} yet: `kubectl describe certificate` says why",
                awaited.join(", ")
            ),
        ));
    }
    Ok(wanted)
}

/// Leads from what there is to certificates of the `wanted` authorities alone.
fn exchange(sight: &Sight, wanted: &[Certificate]) -> Verdict {
    let lacking = |one: &&Certificate| !sight.trusted.contains(one);
    if wanted.iter().any(|one| lacking(&one)) {
        let mut trusted: Vec<_> = wanted.to_vec();
        let old = sight.trusted.iter().filter(|one| !wanted.contains(one));
        trusted.extend(old.cloned());
        trusted.truncate(MAX_TRUSTED);
        let verdict = Verdict::writing(vec![Write::Trust(trusted)]);
        return match sight.trusted.is_empty() {
            true => verdict,
            false => verdict.step(ADDING, Vec::new()),
        };
    }
    let stale: Vec<(Component, bool)> = sight
        .parts
        .iter()
        .filter_map(|(part, certificate)| {
            let free = is_stale(sight, certificate, wanted)?;
            Some((*part, free))
        })
        .collect();
    let write = |part: Component| match sight.mode {
        TlsMode::CertManager => Write::Take(part),
        _ => Write::Make(part),
    };
    if stale.iter().all(|(_, free)| *free) {
        if stale.is_empty() {
            return remove(sight, wanted);
        }
        return Verdict::writing(stale.into_iter().map(|(part, _)| write(part)).collect());
    }
    let Some(reports) = &sight.reports else {
        return Verdict {
            ask: true,
            ..Verdict::default()
        };
    };
    let waiting = without_trust(sight, reports, wanted);
    let may = |(_, free): &&(Component, bool)| *free || waiting.is_empty();
    let writes = stale.iter().filter(may).map(|(part, _)| write(*part));
    let step = if waiting.is_empty() {
        SWITCHING
    } else {
        ADDING
    };
    Verdict::writing(writes.collect()).step(step, waiting)
}

/// Whether a part needs another certificate; and if so, whether it may have it
/// at once, because nobody needs to trust anything new for it.
fn is_stale(sight: &Sight, part: &Part, wanted: &[Certificate]) -> Option<bool> {
    let Some(mounted) = &part.mounted else {
        return Some(true);
    };
    let Some(certificate) = mounted.certificate() else {
        return Some(true);
    };
    let good = match (sight.mode, &part.issued) {
        (TlsMode::CertManager, issued) => {
            let issued = issued.as_ref().and_then(|issued| issued.leaf.certificate());
            issued.is_none_or(|issued| issued.fingerprint == certificate.fingerprint)
        }
        _ => {
            mounted.is_of(wanted)
                && certificate.names == part.names
                && sight.now < certificate.renew_at()
                && certificate.has_key(&mounted.key_pem)
        }
    };
    let signers: Vec<Certificate> = match (sight.mode, &part.issued) {
        (TlsMode::CertManager, Some(issued)) => issued.signers(),
        _ => wanted.to_vec(),
    };
    // One that holds no more is refused by everybody: nothing is lost.
    (!good).then(|| mounted.is_of(&signers) || sight.now >= certificate.until)
}

/// Every part has a certificate of the wanted authorities: the others go when
/// no pod shows one of theirs any more.
fn remove(sight: &Sight, wanted: &[Certificate]) -> Verdict {
    let replaced = sight.mode == TlsMode::Managed && sight.own.next.is_some();
    if !replaced && sight.trusted.len() == wanted.len() {
        return Verdict {
            done: true,
            ..Verdict::default()
        };
    }
    let Some(reports) = &sight.reports else {
        return Verdict {
            ask: true,
            ..Verdict::default()
        };
    };
    let waiting = without_leaf(sight, reports);
    if !waiting.is_empty() {
        return Verdict::default().step(SWITCHING, waiting);
    }
    let write = match replaced {
        true => Write::Promote,
        false => Write::Trust(wanted.to_vec()),
    };
    Verdict::writing(vec![write]).step(REMOVING, Vec::new())
}

/// The pods that have not said that they trust all of `wanted`.
fn without_trust(sight: &Sight, reports: &Reports, wanted: &[Certificate]) -> Vec<String> {
    let trusts = |loaded: &Loaded| {
        loaded.authorities.as_ref().is_none_or(|authorities| {
            let mut all = wanted.iter();
            all.all(|one| authorities.contains(&one.fingerprint))
        })
    };
    // A part that has no certificate is on its way out.
    those_not(reports, |part, loaded| {
        !sight.parts.contains_key(&part) || loaded.is_some_and(trusts)
    })
}

/// The pods that have not said that they show what is mounted.
fn without_leaf(sight: &Sight, reports: &Reports) -> Vec<String> {
    those_not(reports, |part, loaded| {
        let mounted = sight
            .parts
            .get(&part)
            .and_then(|part| part.mounted.as_ref());
        let Some(certificate) = mounted.and_then(Leaf::certificate) else {
            return true;
        };
        loaded.is_some_and(|loaded| {
            let mut leaves = loaded.leaves.iter();
            // A worker serves nothing, and may have nothing to show.
            (part == Component::Worker || !loaded.leaves.is_empty())
                && leaves.all(|leaf| *leaf == certificate.fingerprint)
        })
    })
}

#[cfg(test)]
mod tests;
