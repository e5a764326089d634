use crate::scenario::Scenario;

fn steps(text: &str) -> String {
    Scenario::read(text).run_members()
}

#[test]
fn three_nodes_one_lost_is_nothing_moved_until_another_joins() {
    let lost = "1 a active\n2 b active\n3 c lost silent\ngroup 0: 1* 2 3\ngroup 1: 2* 1 3";
    assert_eq!(
        steps(lost),
        "group 0 needs another member (Gone) and no node is there for it\n\
         group 1 needs another member (Gone) and no node is there for it\n"
    );
    assert_eq!(
        steps(&format!("{lost}\n4 c active")),
        "group 0: add learner 4\n\
         group 0: disk 4 has 0 of 1000 entries\n\
         group 0: swap 4 for 3\n\
         layout: group 0 = 1 2 4\n\
         group 1: add learner 4\n\
         group 1: disk 4 has 0 of 1000 entries\n\
         group 1: swap 4 for 3\n\
         layout: group 1 = 2 1 4\n"
    );
}

#[test]
fn four_nodes_one_lost_is_it_replaced_at_once() {
    assert_eq!(
        steps("1 a active\n2 b active\n3 c lost silent\n4 d active\ngroup 1: 1* 2 3"),
        "group 1: add learner 4\n\
         group 1: disk 4 has 0 of 1000 entries\n\
         group 1: swap 4 for 3\n\
         layout: group 1 = 1 2 4\n"
    );
}

#[test]
fn is_a_silent_member_left_alone_before_the_grace_is_over() {
    let nodes = "1 a active\n2 b active\n3 c active silent\n4 d active\ngroup 1: 1* 2 3";
    assert_eq!(steps(nodes), "");
}

#[test]
fn does_the_leader_hand_over_before_it_goes() {
    assert_eq!(
        steps("1 a draining\n2 b active\n3 c active\n4 d active\ngroup 1: 1* 2 3"),
        "group 1: add learner 4\n\
         group 1: disk 4 has 0 of 1000 entries\n\
         group 1: transfer to 3\n\
         group 1: swap 4 for 1\n\
         layout: group 1 = 4 2 3\n"
    );
}

#[test]
fn drain_without_room_is_refused_with_a_reason() {
    assert_eq!(
        steps("1 a draining\n2 b active\n3 c active\ngroup 1: 1* 2 3"),
        "group 1 needs another member (Leaving) and no node is there for it\n"
    );
}

#[test]
fn is_a_lost_member_replaced_before_one_that_leaves() {
    let steps = steps(
        "1 a draining\n2 b active\n3 c lost silent\n4 d active\n5 e active\n\
         group 1: 1 2* 4\ngroup 2: 2* 3 4",
    );
    let first = steps.lines().next().unwrap();
    assert_eq!(first, "group 2: add learner 5");
    assert!(steps.ends_with("layout: group 1 = 5 2 4\n"), "{steps}");
}

#[test]
fn is_a_free_zone_preferred_and_the_least_burdened_node_in_it() {
    let steps = steps(
        "1 a active\n2 b active\n3 c lost silent\n4 a active\n5 d active\n6 d active\n\
         group 1: 1* 2 3\ngroup 2: 1* 2 5",
    );
    assert_eq!(steps.lines().next().unwrap(), "group 1: add learner 6");
}

#[test]
fn do_two_members_of_one_zone_part_when_a_zone_is_free() {
    let doubled = "1 a active\n2 a active\n3 b active\ngroup 1: 1* 2 3";
    assert_eq!(steps(doubled), "");
    assert_eq!(
        steps(&format!("{doubled}\n4 c active")),
        "group 1: add learner 4\n\
         group 1: disk 4 has 0 of 1000 entries\n\
         group 1: swap 4 for 2\n\
         layout: group 1 = 1 4 3\n"
    );
    // A silent member is reason enough to leave everything as it is.
    assert_eq!(
        steps(
            &format!("{doubled} silent\n4 c active")
                .replace("3 b active", "3 b active silent")
                .replace("2 3 silent", "2 3")
        ),
        ""
    );
}

#[test]
fn is_nothing_moved_for_balance_alone() {
    assert_eq!(
        steps("1 a active\n2 b active\n3 c active\n4 d active\ngroup 1: 1* 2 3\ngroup 2: 1* 2 3"),
        ""
    );
}

#[test]
fn does_a_group_grow_only_to_an_odd_number() {
    assert_eq!(steps("1 a active\n2 b active\ngroup 1: 1*"), "");
    assert_eq!(
        steps("1 a active\n2 b active\n3 c active\ngroup 1: 1*"),
        "group 1: add learner 2\n\
         group 1: disk 2 has 0 of 1000 entries\n\
         group 1: swap 2 for nobody\n\
         layout: group 1 = 1 2\n\
         group 1: add learner 3\n\
         group 1: disk 3 has 0 of 1000 entries\n\
         group 1: swap 3 for nobody\n\
         layout: group 1 = 1 2 3\n"
    );
}

#[test]
fn does_a_group_part_with_who_is_too_many_and_a_faulty_one_first() {
    assert_eq!(
        steps(
            "1 a active\n2 b active\n3 c lost silent\n4 d active\ngroup 1: 1* 2 3 4 wanted 1 2 3"
        ),
        "group 1: remove 3\nlayout: group 1 = 1 2 4\n"
    );
    assert_eq!(
        steps("1 a active\n2 b active\n3 c active\n4 d active\ngroup 1: 1* 2 3 4 wanted 1 2 3"),
        "group 1: remove 2\nlayout: group 1 = 1 4 3\n"
    );
}

#[test]
fn is_a_learner_that_nobody_needs_or_that_died_taken_away() {
    assert_eq!(
        steps("1 a active\n2 b active\n3 c active\n4 d active\ngroup 1: 1* 2 3 +4"),
        "group 1: remove 4\n"
    );
    let died = steps(
        "1 a active\n2 b active\n3 c lost silent\n4 d active silent\n5 e active\n\
         group 1: 1* 2 3 +4",
    );
    assert!(
        died.starts_with("group 1: remove 4\ngroup 1: add learner 5\n"),
        "{died}"
    );
}

#[test]
fn is_a_learner_that_does_not_move_given_up_for_another() {
    let steps = steps(
        "1 a active\n2 b active\n3 c lost silent\n4 d active\n5 e active\n\
         group 1: 1* 2 3 +4 stuck",
    );
    assert!(
        steps.starts_with("group 1: remove 4\ngroup 1: add learner 5\n"),
        "{steps}"
    );
}

#[test]
fn does_a_group_without_a_leader_hold_up_no_other() {
    let steps = steps(
        "1 a active\n2 b active\n3 c lost silent\n4 d active\ngroup 1: 1 2 3\ngroup 2: 1* 2 3",
    );
    assert!(
        steps.starts_with("group 1 has no leader\ngroup 2: add learner 4\n"),
        "{steps}"
    );
}

#[test]
fn does_whoever_leads_next_write_down_what_the_last_one_did() {
    assert_eq!(
        steps("1 a active\n2 b active\n3 c active\n4 d active\ngroup 1: 1* 2 4 wanted 1 2 3"),
        "layout: group 1 = 1 2 4\n"
    );
}
