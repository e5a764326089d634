//! A new release goes round, is finalised, and the older one is refused.

use std::time::Duration;

use holdfast_client::{Cluster, ClusterError};
use holdfast_metadata::command::Refusal;
use holdfast_model::{ActiveRelease, Supported};
use holdfast_sim::{World, run};

use crate::objects::{get, put};

const DEADLINE: Duration = Duration::from_secs(30);
/// Until every node has heard of what group 0 has decided, and written it down.
const HEARD: Duration = Duration::from_secs(5);
/// The release after this one.
const NEXT: Supported = Supported::OWN.ahead();

async fn restart(world: &mut World, number: usize, supports: Supported) -> Result<(), String> {
    world.power_cut(number);
    world.members.get_mut(&number).unwrap().supports = supports;
    world.start(number).await?;
    world.pass(HEARD).await;
    Ok(())
}

async fn finalize(cluster: &Cluster) -> Result<ActiveRelease, ClusterError> {
    let id = cluster.env().entropy.request_id(&*cluster.env().clock);
    cluster.finalize(NEXT.newest().release, id, DEADLINE).await
}

fn noted(world: &World, number: usize) -> Option<ActiveRelease> {
    world.members[&number].node.as_ref()?.status().recorded
}

fn fatal(world: &World, number: usize) -> Option<String> {
    world.members[&number].fatal.lock().unwrap().clone()
}

#[test]
fn a_release_goes_round_is_finalised_and_then_the_older_one_is_refused() {
    run(58, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for n in 0..10 {
            put(&cluster, n).await.unwrap();
        }
        for number in [3, 2] {
            restart(&mut world, number, NEXT).await.unwrap();
        }
        // One is of the older release, and an upgraded one may still go back.
        let held = finalize(&cluster).await.unwrap_err();
        let ClusterError::Refused(Refusal::Held(why)) = held else {
            panic!("{held}");
        };
        let first = world.node_id(1).unwrap().to_string();
        assert!(why.contains(&first), "{why}");
        restart(&mut world, 3, Supported::OWN).await.unwrap();
        for number in [3, 1] {
            restart(&mut world, number, NEXT).await.unwrap();
        }
        // One is away while it is decided.
        world.power_cut(3);
        let active = finalize(&cluster).await.unwrap();
        assert_eq!(active, NEXT.newest());
        assert_eq!(finalize(&cluster).await.unwrap(), active, "again, the same");
        world.pass(HEARD).await;
        assert_eq!(noted(&world, 1), Some(active));

        // A volume that says so refuses the older release by itself.
        let refused = restart(&mut world, 1, Supported::OWN).await.unwrap_err();
        let needed = format!("image of release {} at least", active.release);
        assert!(refused.contains(&needed), "{refused}");
        restart(&mut world, 1, NEXT).await.unwrap();
        // One that does not know it yet ends when it hears of it.
        restart(&mut world, 3, Supported::OWN).await.unwrap();
        let ended = fatal(&world, 3).unwrap();
        assert!(ended.contains(&needed), "{ended}");
        restart(&mut world, 3, NEXT).await.unwrap();
        assert_eq!(noted(&world, 3), Some(active));
        for n in 0..10 {
            assert!(get(&cluster, n).await.unwrap(), "{n} is gone");
        }
    });
}

#[test]
fn a_gateway_that_cannot_speak_what_is_written_is_told() {
    run(59, async |mut world| {
        let cluster = world.founded(3).await.unwrap();
        for number in [3, 2, 1] {
            restart(&mut world, number, NEXT).await.unwrap();
        }
        let own = Supported::OWN;
        let clock = cluster.env().clock.clone();
        let soon = async |cluster: &Cluster| {
            holdfast_runtime::clock::within(&*clock, HEARD, cluster.outgrows(&own)).await
        };
        assert_eq!(soon(&cluster).await, None);
        let active = finalize(&cluster).await.unwrap();
        let why = soon(&cluster).await.unwrap();
        assert!(why.contains(&active.to_string()), "{why}");
    });
}
