use super::*;
use crate::loaded::Loaded;

const OLD: &str = "the old credential";
const NEW: &str = "the new credential";

fn at_rest() -> Slots {
    Slots {
        current: Login::of(OLD),
        ..Slots::default()
    }
}

/// Pods that have loaded what the first two slots hold.
fn pods(all: &[(&str, &Slots)]) -> Reports {
    let report = |slots: &Slots| Loaded {
        credentials: Some(
            std::iter::once(&slots.current)
                .chain(&slots.previous)
                .map(Login::digest)
                .collect(),
        ),
        ..Loaded::default()
    };
    all.iter()
        .map(|(pod, slots)| ((*pod).into(), (Component::Node, Some(report(slots)))))
        .collect()
}

fn waiting(verdict: &Verdict) -> (&str, Vec<&str>) {
    let rotation = verdict.rotation.as_ref().unwrap();
    let pods = rotation.waiting_for.iter().map(String::as_str);
    (&rotation.step, pods.collect())
}

#[test]
fn each_step_waits_for_every_pod_and_says_for_which() {
    let wish = Some("1".to_owned());
    let wish = wish.as_ref();
    let first = at_rest();
    let begun = decide(Which::Cluster, &first, wish, None);
    assert_eq!(begun.write, Some(Write::Offer));
    let offered = after(&first, Write::Offer, wish, Login::of(NEW));
    assert!(decide(Which::Cluster, &offered, wish, None).ask);

    let late = decide(
        Which::Cluster,
        &offered,
        wish,
        Some(&pods(&[("a", &offered), ("b", &first)])),
    );
    assert_eq!((late.write, waiting(&late)), (None, ("Adding", vec!["b"])));
    let silent = [("b".to_owned(), (Component::Gateway, None))].into();
    let silent = decide(Which::Cluster, &offered, wish, Some(&silent));
    assert_eq!(
        (silent.write, waiting(&silent)),
        (None, ("Adding", vec!["b"]))
    );
    let all = decide(
        Which::Cluster,
        &offered,
        wish,
        Some(&pods(&[("a", &offered)])),
    );
    assert_eq!(all.write, Some(Write::Switch));

    let switched = after(&offered, Write::Switch, wish, Login::of("unused"));
    assert_eq!(
        (&switched.current, &switched.previous),
        (&Login::of(NEW), &Some(Login::of(OLD)))
    );
    // It takes the new one, and shows the old one still.
    let late = decide(
        Which::Cluster,
        &switched,
        wish,
        Some(&pods(&[("a", &switched), ("b", &offered)])),
    );
    assert_eq!(
        (late.write, waiting(&late)),
        (None, ("Switching", vec!["b"]))
    );
    let all = decide(
        Which::Cluster,
        &switched,
        wish,
        Some(&pods(&[("a", &switched)])),
    );
    assert_eq!(
        (all.write, waiting(&all)),
        (Some(Write::Drop), ("Removing", vec![]))
    );

    let last = after(&switched, Write::Drop, wish, Login::of("unused"));
    assert_eq!(
        (&last.current, &last.previous, &last.next),
        (&Login::of(NEW), &None, &None)
    );
    assert!(
        decide(Which::Cluster, &last, wish, None).is_done(),
        "once for each wish"
    );
    let again = "2".to_owned();
    assert_eq!(
        decide(Which::Cluster, &last, Some(&again), None).write,
        Some(Write::Offer)
    );
}

#[test]
fn whoever_shows_one_is_known_by_whoever_takes_two_however_late_each_pod_is() {
    let wish = Some("1".to_owned());
    let wish = wish.as_ref();
    // Pods load in every order: bits say which have loaded what is new.
    for orders in 0..64_u32 {
        let mut slots = at_rest();
        let mut loaded = [slots.clone(), slots.clone()];
        for round in 0..12 {
            for (pod, has) in loaded.iter_mut().enumerate() {
                if round > 8 || orders >> (2 * (round % 3) + pod) & 1 == 1 {
                    *has = slots.clone();
                }
                // What each shows, all others take.
            }
            for shows in &loaded {
                for takes in &loaded {
                    let known = [Some(&takes.current), takes.previous.as_ref()];
                    assert!(known.contains(&Some(&shows.current)), "{orders} {round}");
                }
            }
            let reports = pods(&[("a", &loaded[0]), ("b", &loaded[1])]);
            // What is decided is made of the slots alone: every round is
            // another operator's.
            let verdict = decide(Which::Cluster, &slots, wish, Some(&reports));
            if let Some(write) = verdict.write {
                slots = after(&slots, write, wish, Login::of(NEW));
            }
        }
        assert_eq!(slots.current, Login::of(NEW));
        assert_eq!(slots.previous, None, "{orders}");
    }
}

#[test]
fn brokers_and_caches_do_not_know_it() {
    let slots = after(&at_rest(), Write::Offer, None, Login::of(NEW));
    let reports = [
        ("mq".to_owned(), (Component::Rabbitmq, None)),
        (
            "node".to_owned(),
            (Component::Node, Some(Loaded::default())),
        ),
    ];
    let verdict = decide(Which::Cluster, &slots, None, Some(&reports.into()));
    assert_eq!(waiting(&verdict).1, ["node"]);
}

/// A report of a pod that shows one password and takes another.
fn server_of_others(part: Component, loaded: Loaded) -> Reports {
    let user = |password: &str| Loaded {
        queue: Some(Login::of(password).digest()),
        cache: Some(Login::of(password).digest()),
        ..Loaded::default()
    };
    [
        ("server".to_owned(), (part, Some(loaded))),
        ("gateway".to_owned(), (Component::Gateway, Some(user(NEW)))),
        ("late".to_owned(), (Component::Worker, Some(user(OLD)))),
        // It shows neither of the two to anybody.
        (
            "node".to_owned(),
            (Component::Node, Some(Loaded::default())),
        ),
    ]
    .into()
}

#[test]
fn a_password_is_shown_when_its_server_takes_it_and_dropped_when_nobody_shows_the_old_one() {
    for (which, part) in [
        (Which::Queue, Component::Rabbitmq),
        (Which::Cache, Component::Redis),
    ] {
        let offered = after(&at_rest(), Write::Offer, None, Login::of(NEW));
        let takes = |password: &str| Loaded {
            takes: vec![Login::of(password).digest()],
            ..Loaded::default()
        };
        let reports = server_of_others(part, takes(OLD));
        let early = decide(which, &offered, None, Some(&reports));
        assert_eq!(
            (early.write, waiting(&early)),
            (None, ("Adding", vec!["server"]))
        );
        let reports = server_of_others(part, takes(NEW));
        let taken = decide(which, &offered, None, Some(&reports));
        assert_eq!(taken.write, Some(Write::Switch));

        let switched = after(&offered, Write::Switch, None, Login::of("unused"));
        let counted = |connected: usize| Loaded {
            connected: Some(connected),
            ..takes(NEW)
        };
        let mut reports = server_of_others(part, counted(0));
        let late = decide(which, &switched, None, Some(&reports));
        assert_eq!(
            (late.write, waiting(&late)),
            (None, ("Switching", vec!["late"]))
        );
        reports.remove("late");
        let all = decide(which, &switched, None, Some(&reports));
        assert_eq!(all.write, Some(Write::Drop));
    }
}

#[test]
fn the_old_user_of_the_broker_stays_while_anybody_is_connected_as_it_or_nobody_counts() {
    let offered = after(&at_rest(), Write::Offer, None, Login::of(NEW));
    let switched = after(&offered, Write::Switch, None, Login::of("unused"));
    for connected in [Some(1), None] {
        let loaded = Loaded {
            connected,
            ..Loaded::default()
        };
        let mut reports = server_of_others(Component::Rabbitmq, loaded);
        reports.remove("late");
        let verdict = decide(Which::Queue, &switched, None, Some(&reports));
        assert_eq!(
            (verdict.write, waiting(&verdict)),
            (None, ("Switching", vec!["server"]))
        );
    }
}

#[test]
fn without_a_server_to_take_it_no_password_is_exchanged() {
    let offered = after(&at_rest(), Write::Offer, None, Login::of(NEW));
    let asleep = decide(Which::Queue, &offered, None, Some(&Reports::new()));
    assert_eq!(
        (asleep.write, waiting(&asleep)),
        (None, ("Adding", vec!["rabbitmq"]))
    );
}
