//! What a release can, and what a cluster may write.

use super::*;
use crate::ids::DiskId;

const V1: ActiveRelease = ActiveRelease::FIRST;

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

fn range(min: u32, max: u32) -> VersionRange {
    VersionRange { min, max }
}

/// The release of that minor number, which reads that of the one before.
fn minor(minor: u32) -> Supported {
    Supported {
        release: Release {
            major: 0,
            minor,
            patch: 3,
        },
        wire: range(minor.saturating_sub(1).max(1), minor),
        disk: range(minor.saturating_sub(1).max(1), minor),
    }
}

fn node(number: u8, supports: Supported, state: NodeState) -> LayoutNode {
    LayoutNode {
        id: NodeId::from_bytes([number; 16]),
        disk: DiskId::from_bytes([number; 16]),
        address: String::new(),
        zone: None,
        host: None,
        weight: 100,
        state,
        incarnation: 1,
        supports,
    }
}

#[test]
fn releases_are_read_and_compared_by_their_numbers() {
    assert_eq!(release("0.10.2").to_string(), "0.10.2");
    assert!(release("0.10.0") > release("v0.9.3"));
    assert_eq!(release("1.0.0-rc.1"), release("1.0.0"));
    for bad in ["", "latest", "0.2", "0.2.0.1", "0..1", "+1.2.3", "0.2.x"] {
        assert!(bad.parse::<Release>().is_err(), "{bad}");
    }
}

#[test]
fn a_release_follows_the_one_before_it_alone() {
    let follows = |new, old| release(new).follows(release(old));
    assert!(follows("0.2.0", "0.1.7") && follows("1.0.0", "0.9.0"));
    assert!(!follows("0.1.1", "0.1.0") && !follows("0.3.0", "0.1.0"));
    assert!(!follows("1.1.0", "0.9.0") && !follows("0.1.0", "0.2.0"));
}

#[test]
fn this_release_reads_what_it_writes_and_says_which_it_is() {
    let own = Supported::OWN;
    assert!(own.reads(own.newest()));
    assert_eq!(own.release, release(own.version()));
}

#[test]
fn a_release_ahead_takes_the_next_step_and_says_that_it_is_for_tests() {
    let (own, ahead) = (Supported::OWN, Supported::OWN.ahead());
    assert!(ahead.release.follows(own.release));
    assert!(ahead.reads(own.newest()) && !own.reads(ahead.newest()));
    assert!(ahead.newest().is_next_after(own.newest()));
    assert!(ahead.version().contains("FOR TESTS ALONE"));
}

#[test]
fn a_release_too_old_and_one_that_skips_are_refused_with_the_release_to_use() {
    let (one, two, three) = (minor(1), minor(2), minor(3));
    assert!(one.reads(V1) && two.reads(V1) && !three.reads(V1));
    assert!(!one.reads(two.newest()));
    let old = one.refusal(two.newest());
    assert!(old.contains("image of release 0.2.0 at least"), "{old}");
    let skips = three.refusal(V1);
    assert!(skips.contains("image of release 0.1.0 first"), "{skips}");
}

#[test]
fn a_cluster_goes_up_by_one() {
    let (two, three) = (minor(2).newest(), minor(3).newest());
    assert!(two.is_next_after(V1) && three.is_next_after(two));
    assert!(!three.is_next_after(V1) && !V1.is_next_after(two) && !two.is_next_after(two));
    // A release may change one of its formats alone, but none is no step.
    assert!(ActiveRelease { disk: 1, ..two }.is_next_after(V1));
    assert!(
        !ActiveRelease {
            release: two.release,
            ..V1
        }
        .is_next_after(V1)
    );
}

#[test]
fn nodes_that_were_given_up_or_emptied_hold_nothing_back() {
    use NodeState::{Active, Down, Drained, Lost, Unplaced};
    let (one, two) = (minor(1), minor(2));
    let nodes = [
        node(1, two, Active),
        node(2, one, Lost),
        node(3, one, Drained),
    ];
    assert_eq!(newest_of_all(&nodes), Some(two.newest()));
    for state in [Active, Down, Unplaced] {
        let with = [node(1, two, Active), node(4, one, state)];
        assert_eq!(lacking(&with, two.newest()), [with[1].id]);
        assert_eq!(newest_of_all(&with), Some(V1));
    }
    // Nothing that both can.
    let apart = [node(1, one, Active), node(2, minor(3), Active)];
    assert_eq!(newest_of_all(&apart), None);
}

#[test]
fn the_formats_stay_as_they_are() {
    let golden = [0x83, 0x83, 0, 1, 3, 0x82, 1, 1, 0x82, 1, 1];
    assert_eq!(minicbor::to_vec(minor(1)).unwrap(), golden);
    let golden = [0x83, 0x83, 0, 2, 0, 2, 2];
    assert_eq!(minicbor::to_vec(minor(2).newest()).unwrap(), golden);
}
