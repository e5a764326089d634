//! A cluster is founded, takes objects, and loses none of them.

use std::time::Duration;

use holdfast_sim::run;

use crate::objects::{get, put, put_sized};

#[test]
fn a_cluster_is_founded_and_keeps_what_it_acknowledged() {
    run(1, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..50 {
            put(&cluster, n).await.unwrap();
        }
        for n in 0..50 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
    });
}

#[test]
fn a_power_cut_of_all_nodes_loses_nothing_acknowledged() {
    run(2, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..50 {
            put(&cluster, n).await.unwrap();
        }
        for number in 1..=3 {
            world.power_cut(number);
        }
        for number in 1..=3 {
            world.start(number).await.unwrap();
        }
        world.pass(Duration::from_secs(5)).await;
        cluster.wait_ready(Duration::from_secs(30)).await.unwrap();
        for n in 0..50 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
        for n in 50..60 {
            put(&cluster, n).await.unwrap();
        }
    });
}

#[test]
fn one_node_may_die_while_objects_come() {
    run(3, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..20 {
            put(&cluster, n).await.unwrap();
        }
        world.power_cut(2);
        for n in 20..40 {
            put(&cluster, n).await.unwrap();
        }
        world.start(2).await.unwrap();
        world.power_cut(3);
        for n in 40..60 {
            put(&cluster, n).await.unwrap();
        }
        for n in 0..60 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = || {
        run(7, async |mut world| {
            let cluster = world.founded(3).await.unwrap();
            for n in 0..20 {
                put(&cluster, n).await.unwrap();
            }
            world.power_cut(1);
            for n in 20..30 {
                put(&cluster, n).await.unwrap();
            }
            world.trace.digest()
        })
    };
    assert_eq!(trace(), trace());
}

#[test]
fn a_node_that_missed_too_much_is_given_a_snapshot() {
    run(4, async |mut world| {
        world.log_file_bytes = 1 << 20;
        let cluster = world.founded(3).await.unwrap();
        put(&cluster, 0).await.unwrap();
        world.power_cut(3);
        for n in 1..600 {
            put_sized(&cluster, n, 10 << 10).await.unwrap();
        }
        world.pass(Duration::from_secs(10)).await;
        world.start(3).await.unwrap();
        // Caught up: as far as the leaders are.
        let behind = || {
            let applied = |number: usize| {
                world.members[&number]
                    .node
                    .as_ref()
                    .unwrap()
                    .status()
                    .groups
            };
            let newest = applied(1);
            applied(3)
                .iter()
                .zip(&newest)
                .filter(|(a, b)| a.applied < b.applied)
                .count()
                + newest.len()
                - applied(3).len()
        };
        for _ in 0..300 {
            if behind() == 0 {
                break;
            }
            world.pass(Duration::from_millis(100)).await;
        }
        assert_eq!(behind(), 0);
        world.power_cut(1);
        for n in (0..600).step_by(7) {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
        put(&cluster, 600).await.unwrap();
    });
}
