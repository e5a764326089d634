//! A cluster whose certificates are real, and whose pods load them late.

use rcgen::KeyPair;

use super::super::*;
use super::{NOW, PARTS};
use crate::certificates::making::{Chance, make_authority, make_leaf};
use crate::certificates::reading::Fingerprint;

/// What a pod has loaded.
#[derive(Clone)]
pub(super) struct Pod {
    pub(super) part: Component,
    pub(super) leaf: Option<Leaf>,
    pub(super) trusted: Vec<Certificate>,
    pub(super) silent: bool,
}

impl Pod {
    pub(super) fn report(&self) -> Option<Loaded> {
        (!self.silent).then(|| Loaded {
            leaves: self
                .leaf
                .iter()
                .map(|leaf| leaf.chain[0].fingerprint)
                .collect(),
            authorities: (self.part != Component::Rabbitmq)
                .then(|| self.trusted.iter().map(|one| one.fingerprint).collect()),
            ..Loaded::default()
        })
    }
}

pub(super) struct World {
    pub(super) sight: Sight,
    pub(super) pods: Vec<Pod>,
    pub(super) numbers: u8,
}

impl World {
    pub(super) fn of(mode: TlsMode) -> Self {
        let part = |part: Component| {
            let names = [format!("demo-{}", part.as_str())].into();
            (
                part,
                Part {
                    names,
                    ..Part::default()
                },
            )
        };
        Self {
            sight: Sight {
                mode,
                parts: PARTS.map(part).into(),
                has_cert_manager: true,
                now: NOW,
                ..Sight::default()
            },
            pods: Vec::new(),
            numbers: 0,
        }
    }

    /// A cluster of the operator's own authority, with a pod of each part.
    pub(super) fn born() -> Self {
        let mut world = Self::of(TlsMode::Managed);
        world.settle();
        world.start_pods();
        world
    }

    pub(super) fn start_pods(&mut self) {
        self.pods = PARTS
            .map(|part| Pod {
                part,
                leaf: self.sight.parts[&part].mounted.clone(),
                trusted: self.sight.trusted.clone(),
                silent: false,
            })
            .into();
    }

    pub(super) fn chance(&mut self) -> Chance {
        self.numbers += 1;
        Chance {
            key: KeyPair::generate().unwrap(),
            serial: [self.numbers; 16],
        }
    }

    pub(super) fn decide(&mut self) -> Verdict {
        self.sight.reports = None;
        let verdict = decide(&self.sight);
        if !verdict.ask {
            return verdict;
        }
        let name = |pod: &Pod| format!("demo-{}", pod.part.as_str());
        let reports = self
            .pods
            .iter()
            .map(|pod| (name(pod), (pod.part, pod.report())));
        self.sight.reports = Some(reports.collect());
        decide(&self.sight)
    }

    pub(super) fn write(&mut self, write: &Write) {
        let (now, wish) = (self.sight.now, self.sight.wish.clone());
        match write {
            Write::Authority { next } => {
                let made = make_authority("files/demo", &self.chance(), now).unwrap();
                let own = &mut self.sight.own;
                own.begun_for = wish;
                *(if *next {
                    &mut own.next
                } else {
                    &mut own.current
                }) = Some(made);
            }
            Write::Promote => self.sight.own.current = self.sight.own.next.take(),
            Write::Trust(authorities) => self.sight.trusted = authorities.clone(),
            Write::Make(part) => {
                let chance = self.chance();
                let own = &self.sight.own;
                let authority = own.next.as_ref().or(own.current.as_ref()).unwrap();
                let names: Vec<_> = self.sight.parts[part].names.iter().cloned().collect();
                let made = make_leaf("demo", &names, authority, &chance, now).unwrap();
                self.part(*part).mounted = Some(made);
            }
            Write::Take(part) => {
                let part = self.part(*part);
                part.mounted = part.issued.as_ref().map(|issued| issued.leaf.clone());
            }
        }
    }

    pub(super) fn part(&mut self, part: Component) -> &mut Part {
        self.sight.parts.get_mut(&part).unwrap()
    }

    /// Until nothing is written any more.
    pub(super) fn settle(&mut self) -> Verdict {
        for _ in 0..20 {
            let verdict = self.decide();
            if verdict.writes.is_empty() {
                return verdict;
            }
            for write in &verdict.writes {
                self.write(write);
            }
        }
        panic!("it does not come to an end");
    }

    pub(super) fn load(&mut self, pod: usize, leaf: bool, trust: bool) {
        let part = self.pods[pod].part;
        if leaf {
            self.pods[pod].leaf = self.sight.parts[&part].mounted.clone();
        }
        if trust {
            self.pods[pod].trusted = self.sight.trusted.clone();
        }
    }

    pub(super) fn load_all(&mut self) {
        (0..self.pods.len()).for_each(|pod| self.load(pod, true, true));
    }

    /// Whoever is called is believed, by what each pod has loaded.
    pub(super) fn check(&self) {
        // A broker calls nobody.
        let calls = |pod: &&Pod| pod.part != Component::Rabbitmq;
        for caller in self.pods.iter().filter(calls) {
            for called in &self.pods {
                let leaf = called.leaf.as_ref().unwrap();
                assert!(
                    leaf.is_of(&caller.trusted),
                    "{:?} does not believe {:?}",
                    caller.part,
                    called.part
                );
            }
        }
    }

    /// Plays an exchange to its end: after each single write the operator dies,
    /// and pods load, or not yet, as the bits of `order` say.
    pub(super) fn play(&mut self, mut order: u64) {
        for round in 0..200 {
            for pod in 0..self.pods.len() {
                order = order.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let late = round < 150;
                self.load(
                    pod,
                    !late || order >> 60 & 1 == 1,
                    !late || order >> 61 & 1 == 1,
                );
                self.check();
            }
            let verdict = self.decide();
            if verdict.done {
                self.load_all();
                self.check();
                return;
            }
            let writes = &verdict.writes;
            // Of several writes any may be the last of an operator.
            let at = order as usize % writes.len().max(1);
            if let Some(write) = writes.get(at) {
                self.write(&write.clone());
            }
        }
        panic!("it does not come to an end");
    }

    pub(super) fn authorities(&self) -> BTreeSet<Fingerprint> {
        self.sight
            .trusted
            .iter()
            .map(|one| one.fingerprint)
            .collect()
    }

    pub(super) fn leaves(&self) -> Vec<Fingerprint> {
        let parts = self.sight.parts.values();
        parts
            .map(|part| part.mounted.as_ref().unwrap().chain[0].fingerprint)
            .collect()
    }

    /// Another issuer gives certificates of its own to these parts.
    pub(super) fn issue(&mut self, authority: &Leaf, parts: &[Component]) {
        for part in parts {
            let chance = self.chance();
            let leaf = make_leaf("demo", &["a".into()], authority, &chance, NOW).unwrap();
            self.part(*part).issued = Some(Issued {
                leaf,
                authorities: authority.chain.clone(),
            });
        }
    }
}
