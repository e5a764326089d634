use super::*;

fn op(called: u64, returned: impl Into<Option<u64>>, action: Action) -> Op {
    Op {
        client: 0,
        called,
        returned: returned.into(),
        action,
    }
}

fn plain(value: Value) -> Held {
    Held { value, left: None }
}

fn limited(value: Value, left: u32) -> Held {
    Held {
        value,
        left: Some(left),
    }
}

fn put(value: Value) -> Action {
    Action::Put(plain(value), When::Always)
}

fn put_when(value: Value, when: When) -> Action {
    Action::Put(plain(value), when)
}

fn read(value: Value) -> Action {
    Action::Read(Some(plain(value)))
}

const NOTHING: Action = Action::Read(None);

/// One after the other, each answered before the next is called.
fn in_turn(actions: impl IntoIterator<Item = Action>) -> Vec<Op> {
    let numbered = (1..).zip(actions);
    numbered
        .map(|(n, action)| op(2 * n, 2 * n + 1, action))
        .collect()
}

fn explained(actions: impl IntoIterator<Item = Action>) {
    let history = in_turn(actions);
    assert_eq!(check(&history), Ok(()), "{history:#?}");
}

fn refused(actions: impl IntoIterator<Item = Action>) {
    let history = in_turn(actions);
    let found = check(&history);
    assert!(
        matches!(found, Err(Refused::NotLinearizable { .. })),
        "{found:?} of {history:#?}"
    );
}

#[test]
fn one_after_the_other_is_explained() {
    explained([
        NOTHING,
        put(7),
        read(7),
        Action::Take(7),
        NOTHING,
        put_when(8, When::Absent),
        read(8),
    ]);
}

#[test]
fn a_write_that_is_lost_is_found() {
    refused([put(7), NOTHING]);
}

#[test]
fn a_stale_read_is_found() {
    refused([put(7), put(8), read(7)]);
}

#[test]
fn a_read_that_goes_back_behind_another_is_found() {
    // While the write runs either is right, but not new and then old.
    let new_then_old = [
        op(1, 2, put(7)),
        op(3, 20, put(8)),
        op(4, 5, read(8)),
        op(6, 7, read(7)),
    ];
    assert!(check(&new_then_old).is_err());
    let old_then_new = [
        op(1, 2, put(7)),
        op(3, 20, put(8)),
        op(4, 5, read(7)),
        op(6, 7, read(8)),
    ];
    assert_eq!(check(&old_then_new), Ok(()));
}

#[test]
fn what_comes_back_after_a_delete_is_found() {
    refused([put(7), Action::Take(7), read(7)]);
}

#[test]
fn one_value_is_not_removed_twice() {
    let history = [
        op(1, 2, put(7)),
        op(3, 10, Action::Take(7)),
        op(4, 11, Action::Take(7)),
    ];
    assert!(check(&history).is_err());
}

#[test]
fn two_conditional_writes_do_not_both_win() {
    let before = [
        (When::Absent, vec![]),
        (When::Is(6), vec![op(1, 2, put(6))]),
    ];
    for (when, before) in before {
        let mut history = before;
        history.push(op(11, 20, put_when(7, when)));
        assert_eq!(check(&history), Ok(()), "{when:?}");
        history.push(op(12, 21, put_when(8, when)));
        assert!(check(&history).is_err(), "{when:?}");
    }
}

#[test]
fn a_condition_that_is_not_met_must_not_be() {
    let unmet = |when, there| Action::Unmet(when, there);
    explained([
        unmet(When::Is(7), None),
        put(7),
        unmet(When::Absent, Some(7)),
        unmet(When::Is(NOBODYS), Some(7)),
        put_when(8, When::Is(7)),
        unmet(When::Is(7), Some(8)),
        Action::Take(8),
        unmet(When::Is(8), None),
    ]);
    // Refused although it was met.
    refused([unmet(When::Absent, None)]);
    refused([put(7), unmet(When::Is(7), Some(7))]);
    refused([unmet(When::Always, None)]);
    // Refused for something that is not there, or no longer.
    refused([unmet(When::Absent, Some(7))]);
    refused([put(7), Action::Take(7), unmet(When::Absent, Some(7))]);
    refused([put(7), put(8), unmet(When::Absent, Some(7))]);
    refused([put(7), unmet(When::Is(8), None)]);
}

#[test]
fn a_write_on_a_condition_is_not_done_over_something_else() {
    refused([put(7), put(8), put_when(9, When::Is(7))]);
    refused([put(7), Action::Take(7), put_when(9, When::Is(7))]);
    refused([put(7), put_when(9, When::Absent)]);
    refused([put(7), put_when(9, When::Is(NOBODYS))]);
}

#[test]
fn a_condition_is_judged_at_one_moment_between_call_and_answer() {
    // Another write runs at the same time: either came first.
    for there in [7, 8] {
        let either = [
            op(1, 2, put(7)),
            op(3, 10, put(8)),
            op(4, 9, Action::Unmet(When::Absent, Some(there))),
        ];
        assert_eq!(check(&either), Ok(()), "{there}");
    }
    let and_back = [
        op(1, 2, put(7)),
        op(3, 20, put(8)),
        op(4, 5, Action::Unmet(When::Absent, Some(8))),
        op(6, 7, Action::Unmet(When::Absent, Some(7))),
    ];
    assert!(check(&and_back).is_err());
}

#[test]
fn a_delete_of_one_value_never_takes_another() {
    let deleted = |there: Action| {
        [
            op(1, 2, put(7)),
            op(3, None, Action::Clear(When::Is(7))),
            op(5, 6, put(8)),
            op(7, 8, there),
        ]
    };
    assert_eq!(check(&deleted(read(8))), Ok(()));
    assert!(check(&deleted(NOTHING)).is_err());
    refused([put(7), put(8), Action::Take(7)]);
}

#[test]
fn an_unknown_outcome_may_be_either_and_late_but_not_both() {
    let never = [
        op(1, 2, put(7)),
        op(3, None, put(8)),
        op(4, 5, read(7)),
        op(6, 7, read(7)),
    ];
    assert_eq!(check(&never), Ok(()));
    let late = [
        op(1, 2, put(7)),
        op(3, None, put(8)),
        op(4, 5, read(7)),
        op(6, 7, read(8)),
    ];
    assert_eq!(check(&late), Ok(()));
    let back = [
        op(1, 2, put(7)),
        op(3, None, put(8)),
        op(4, 5, read(8)),
        op(6, 7, read(7)),
    ];
    assert!(check(&back).is_err());
    let cleared = [
        op(1, 2, put(7)),
        op(3, None, Action::Clear(When::Always)),
        op(4, 5, NOTHING),
    ];
    assert_eq!(check(&cleared), Ok(()));
}

#[test]
fn a_write_that_nobody_saw_may_have_hidden_another() {
    let hidden = |unknown: bool| {
        let mut history = in_turn([put(7), Action::Gone(7)]);
        history.extend(unknown.then(|| op(1, None, put(8))));
        check(&history)
    };
    assert_eq!(hidden(true), Ok(()));
    assert!(hidden(false).is_err());
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    refused([read(9)]);
}

#[test]
fn a_list_shows_what_was_acknowledged_and_nothing_that_was_deleted() {
    explained([Action::Listed(None), put(7), Action::Listed(Some(7))]);
    refused([put(7), Action::Listed(None)]);
    refused([put(7), put(8), Action::Listed(Some(7))]);
    refused([put(7), Action::Take(7), Action::Listed(Some(7))]);
    // A page that ends before everything has been shown.
    explained([put(7), Action::NoneOf(vec![3, 4])]);
    explained([put(7), put(8), Action::NoneOf(vec![7])]);
    explained([put(7), Action::Take(7), Action::NoneOf(vec![7])]);
    refused([put(7), Action::NoneOf(vec![3, 7])]);
}

#[test]
fn an_object_with_a_limit_that_is_lost_is_found() {
    let put = Action::Put(limited(7, 2), When::Absent);
    explained([put.clone(), Action::Read(Some(limited(7, 2)))]);
    refused([put.clone(), NOTHING]);
    refused([put.clone(), Action::Gone(7)]);
    refused([put.clone(), Action::Reserve(limited(7, 1)), NOTHING]);
    refused([
        put.clone(),
        Action::Reserve(limited(7, 1)),
        Action::Reserve(limited(7, 0)),
        NOTHING,
    ]);
    explained([put, Action::Take(7), Action::Gone(7), NOTHING]);
}

#[test]
fn a_download_is_refused_only_when_none_is_left() {
    let put = Action::Put(limited(7, 1), When::Absent);
    let reserve = Action::Reserve(limited(7, 0));
    refused([put.clone(), Action::UsedUp(7)]);
    explained([put.clone(), reserve.clone(), Action::UsedUp(7)]);
    let back = [reserve.clone(), Action::GiveBack(7)];
    let given_back = [std::slice::from_ref(&put), &back[..]].concat();
    refused([given_back.clone(), vec![Action::UsedUp(7)]].concat());
    explained([given_back, vec![reserve.clone(), Action::UsedUp(7)]].concat());
    // One whose outcome nobody knows may have been the last.
    let unknown = [
        op(1, 2, put),
        op(3, None, Action::MayReserve(7)),
        op(5, 6, Action::UsedUp(7)),
    ];
    assert_eq!(check(&unknown), Ok(()));
}

#[test]
fn no_more_downloads_are_given_than_the_limit() {
    let put = Action::Put(limited(7, 1), When::Absent);
    refused([
        put.clone(),
        Action::Reserve(limited(7, 0)),
        Action::Reserve(limited(7, 0)),
    ]);
    // Nor is one given back twice.
    let once = [
        put,
        Action::Reserve(limited(7, 0)),
        Action::GiveBack(7),
        Action::Read(Some(limited(7, 1))),
    ];
    explained(once.clone());
    let [put, reserve, back, _] = once;
    refused([put, reserve, back, Action::Read(Some(limited(7, 2)))]);
}

#[test]
fn what_is_used_up_can_be_asked_for_and_counts_as_absent() {
    let used = [
        Action::Put(limited(7, 1), When::Absent),
        Action::Reserve(limited(7, 0)),
        Action::Read(Some(limited(7, 0))),
        Action::Listed(None),
        Action::NoneOf(vec![7]),
    ];
    explained(used.clone());
    let over = Action::Put(limited(8, 3), When::Absent);
    explained([&used[..], &[over.clone(), Action::Gone(7)]].concat());
    // Not while one is left.
    refused([Action::Put(limited(7, 1), When::Absent), over]);
}
