//! Exchanges of authorities, played through with certificates that are real.
//! Every round is another operator's: nothing but the Secrets is kept.

mod world;

use rcgen::KeyPair;

use super::*;
use crate::certificates::making::make_authority;
use crate::certificates::{AUTHORITY_DAYS, DAY_SECONDS};
use world::World;

const NOW: i64 = 1_800_000_000;
const PARTS: [Component; 3] = [Component::Node, Component::Gateway, Component::Rabbitmq];

fn rotation_of(verdict: &Verdict) -> (&str, Vec<&str>) {
    let rotation = verdict.rotation.as_ref().unwrap();
    let pods = rotation.waiting_for.iter().map(String::as_str);
    (&rotation.step, pods.collect())
}

#[test]
fn a_cluster_is_born_with_an_authority_and_a_certificate_of_each_part() {
    let mut world = World::born();
    assert_eq!(world.authorities().len(), 1);
    let trusted = &world.sight.trusted;
    for part in world.sight.parts.values() {
        let leaf = part.mounted.as_ref().unwrap();
        assert!(leaf.is_of(trusted));
        assert_eq!(leaf.chain[0].names, part.names);
    }
    world.check();
    assert!(world.decide().done);
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_and_nobody_is_asked() {
    let mut world = World::born();
    let before = world.leaves();
    world.sight.now += 59 * DAY_SECONDS;
    assert!(world.decide().done);
    world.sight.now += 2 * DAY_SECONDS;
    for pod in &mut world.pods {
        pod.silent = true;
    }
    let verdict = world.decide();
    assert_eq!(verdict.writes, PARTS.map(Write::Make).to_vec());
    assert_eq!(verdict.rotation, None);
    world.settle();
    assert!(world.leaves().iter().all(|leaf| !before.contains(leaf)));
    world.check();
    assert_eq!(world.authorities().len(), 1);
}

#[test]
fn a_certificate_is_made_again_when_its_names_change_or_its_key_is_not_its_own() {
    let mut world = World::born();
    world
        .part(Component::Gateway)
        .names
        .insert("files.example.org".into());
    assert_eq!(world.decide().writes, [Write::Make(Component::Gateway)]);
    world.settle();
    let other = KeyPair::generate().unwrap().serialize_pem();
    world
        .part(Component::Node)
        .mounted
        .as_mut()
        .unwrap()
        .key_pem = other;
    assert_eq!(world.decide().writes, [Write::Make(Component::Node)]);
}

#[test]
fn each_step_of_an_exchange_waits_and_says_for_whom() {
    let mut world = World::born();
    let (old, leaves) = (world.authorities(), world.leaves());
    world.sight.wish = Some("1".into());
    assert_eq!(world.decide().writes, [Write::Authority { next: true }]);

    world.pods[1].silent = true;
    let verdict = world.settle();
    let everybody = vec!["demo-gateway", "demo-node"];
    assert_eq!(rotation_of(&verdict), ("Adding", everybody));
    assert_eq!(world.authorities().len(), 2);
    assert_eq!(
        world.leaves(),
        leaves,
        "nobody shows what nobody trusts yet"
    );

    world.load_all();
    let verdict = world.settle();
    assert_eq!(rotation_of(&verdict), ("Adding", vec!["demo-gateway"]));
    assert_eq!(world.leaves(), leaves);

    world.pods[1].silent = false;
    let verdict = world.settle();
    assert_eq!(rotation_of(&verdict).0, "Switching");
    assert_eq!(rotation_of(&verdict).1.len(), 3, "also the broker");
    assert_eq!(world.authorities().len(), 2, "the old one is still shown");

    world.load(0, true, true);
    world.load(1, true, true);
    let verdict = world.settle();
    assert_eq!(rotation_of(&verdict), ("Switching", vec!["demo-rabbitmq"]));

    world.load_all();
    assert!(world.settle().done);
    assert!(world.authorities().is_disjoint(&old));
    assert_eq!(world.authorities().len(), 1);
    assert_eq!(world.sight.own.next, None);
    assert!(world.decide().done, "once for each wish");
    world.sight.wish = Some("2".into());
    assert_eq!(world.decide().writes, [Write::Authority { next: true }]);
}

#[test]
fn an_authority_is_exchanged_by_itself_long_before_its_end() {
    let mut world = World::born();
    world.sight.now += AUTHORITY_DAYS * DAY_SECONDS * 2 / 3 + DAY_SECONDS;
    // Certificates come first; the authority when they are fine.
    let verdict = world.decide();
    assert_eq!(verdict.writes, PARTS.map(Write::Make).to_vec());
    for write in &verdict.writes {
        world.write(write);
    }
    assert_eq!(world.decide().writes, [Write::Authority { next: true }]);
}

#[test]
fn everybody_believes_everybody_wherever_operators_die_and_however_late_pods_are() {
    for order in 1..12 {
        let mut world = World::born();
        let old = world.authorities();
        world.sight.wish = Some("1".into());
        world.play(order * 0x0123_4567_89ab_cdef);
        assert_eq!(world.authorities().len(), 1);
        assert!(world.authorities().is_disjoint(&old));
    }
}

#[test]
fn certificates_come_from_others_and_back_while_all_runs() {
    let theirs = World::of(TlsMode::Managed).chance();
    let theirs = make_authority("theirs", &theirs, NOW).unwrap();
    for order in 1..6 {
        let mut world = World::born();
        world.sight.mode = TlsMode::CertManager;
        let reason = |verdict: &Verdict| verdict.missing.clone().unwrap().0;
        assert_eq!(reason(&world.decide()), "WaitingForCertificates");
        world.numbers = 100;
        world.issue(&theirs, &PARTS);
        world.play(order * 0x0fed_cba9_8765_4321);
        assert_eq!(world.sight.trusted, theirs.chain);
        world.sight.mode = TlsMode::Managed;
        world.play(order);
        assert_eq!(world.authorities().len(), 1);
        assert_ne!(world.sight.trusted, theirs.chain);
    }
}

#[test]
fn an_issuer_that_changes_its_authority_part_by_part_breaks_nothing() {
    for order in 1..6 {
        let mut world = World::of(TlsMode::CertManager);
        world.numbers = 50;
        let chances = [world.chance(), world.chance()];
        let [old, new] = chances.map(|chance| make_authority("theirs", &chance, NOW).unwrap());
        world.issue(&old, &PARTS);
        world.settle();
        world.start_pods();
        world.issue(&new, &[Component::Gateway]);
        world.play(order * 0x0fed_cba9_8765_4321);
        assert_eq!(world.authorities().len(), 2, "both are in use");
        world.issue(&new, &PARTS);
        world.play(order);
        assert_eq!(world.sight.trusted, new.chain);
    }
}

#[test]
fn what_cert_manager_lacks_is_told() {
    let mut world = World::of(TlsMode::CertManager);
    let reason = |world: &mut World| world.decide().missing.unwrap().0;
    world.sight.has_cert_manager = false;
    assert_eq!(reason(&mut world), "CertManagerMissing");
    world.sight.has_cert_manager = true;
    assert_eq!(reason(&mut world), "WaitingForCertificates");
    let chance = world.chance();
    let authority = make_authority("theirs", &chance, NOW).unwrap();
    world.issue(&authority, &PARTS);
    world
        .part(Component::Node)
        .issued
        .as_mut()
        .unwrap()
        .authorities
        .clear();
    assert_eq!(reason(&mut world), "AuthorityMissing");
}

#[test]
fn one_that_holds_no_more_is_replaced_at_once() {
    let mut world = World::born();
    world.sight.own = Own::default();
    world.sight.now += 91 * DAY_SECONDS;
    for pod in &mut world.pods {
        pod.silent = true;
    }
    world.settle();
    let now = world.sight.now;
    for part in world.sight.parts.values() {
        assert!(part.mounted.as_ref().unwrap().chain[0].until > now);
    }
}
