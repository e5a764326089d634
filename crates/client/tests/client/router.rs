//! From a group to its leader.

use std::time::Duration;

use holdfast_client::{Cluster, ClusterError, Health};
use holdfast_metadata::command::{Command, Outcome};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{GroupId, RequestId};
use tokio::time::Instant;

use crate::fake::{Fake, Fault, GROUP, disk};

const DEADLINE: Duration = Duration::from_secs(10);

async fn propose(cluster: &Cluster, deadline: Duration) -> Result<Outcome, ClusterError> {
    let id = RequestId::from_bytes([5; 16]);
    let command = Command::AdvanceGeneration;
    cluster.propose(GROUP, id, command, deadline, None).await
}

#[tokio::test(start_paused = true)]
async fn a_view_finds_all_nodes_from_one_seed_and_is_confirmed() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(cluster.nodes().iter().all(|n| n.health == Health::Up));
    assert_eq!(cluster.leaders()[&GROUP].leader, Some(disk(1)));
    assert!(cluster.freshness() <= Duration::from_secs(4));
    fake.fault(3, Fault::Dead);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let health = |n| cluster.manager().health_of_disk(disk(n));
    assert_eq!((health(1), health(3)), (Health::Up, Health::Suspect));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((health(1), health(3)), (Health::Up, Health::Unreachable));
    assert_eq!(cluster.manager().pick(3, &[]).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_view_is_ready_once_its_state_is_confirmed() {
    let fake = Fake::new();
    // It says who leads, and answers no question.
    fake.fault(1, Fault::Busy);
    let cluster = fake.begin();
    let error = cluster.wait_ready(DEADLINE).await.unwrap_err();
    assert!(error.to_string().contains("confirmed"), "{error}");
    assert_eq!(cluster.leaders()[&GROUP].leader, Some(disk(1)));
    fake.fault(1, Fault::None);
    cluster.wait_ready(DEADLINE).await.unwrap();
    assert!(cluster.freshness() < DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_at_once() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    propose(&cluster, DEADLINE).await.unwrap();
    {
        let mut world = fake.world();
        (world.leader, world.hint) = (Some(3), Some(3));
        world.attempts = 0;
    }
    let started = Instant::now();
    propose(&cluster, DEADLINE).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(fake.world().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn without_hints_the_members_are_tried_in_turn() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    {
        let mut world = fake.world();
        (world.leader, world.hint) = (Some(3), None);
    }
    propose(&cluster, DEADLINE).await.unwrap();
    // Members that point at each other are not followed for ever either.
    {
        let mut world = fake.world();
        (world.leader, world.hint) = (Some(2), Some(1));
    }
    propose(&cluster, DEADLINE).await.unwrap();
    let ids: Vec<_> = fake.world().commands.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_costs_no_more_than_the_election() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    propose(&cluster, DEADLINE).await.unwrap();
    fake.fault(1, Fault::Dead);
    {
        let mut world = fake.world();
        (world.leader, world.hint) = (Some(2), Some(2));
    }
    let started = Instant::now();
    propose(&cluster, DEADLINE).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_a_call_fails_within_two_seconds() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    fake.fault(1, Fault::Dead);
    fake.fault(3, Fault::Dead);
    fake.world().leader = None;
    fake.world().hint = None;
    for wait in [0, 3_000] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let started = Instant::now();
        let error = propose(&cluster, Duration::from_secs(30)).await;
        assert!(
            matches!(error, Err(ClusterError::NoQuorum { group: GROUP })),
            "{error:?}"
        );
        let took = started.elapsed();
        assert!(took <= Duration::from_millis(2_100), "{took:?}");
        if wait > 0 {
            assert!(took < Duration::from_millis(100), "{took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_takes_nobody_for_silent() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    fake.fault(3, Fault::Silent);
    for _ in 0..4 {
        // The others answer at the beginning of a round of polls, which ends
        // when this process comes to look at its clock again.
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::time::advance(Duration::from_millis(1_700)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let answer = propose(&cluster, DEADLINE).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_an_answer_to_a_poll_took_is_told() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    fake.fault(3, Fault::Silent);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let took: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|view| view.answered_in)
        .collect();
    let (now, late) = (Some(Duration::ZERO), Some(Duration::from_secs(1)));
    assert_eq!(took, [now, now, late]);
    fake.fault(3, Fault::None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.nodes()[2].answered_in, now);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_command_was_not_done_when_the_deadline_ends() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    fake.world().leader = None;
    fake.world().hint = None;
    let started = Instant::now();
    let error = propose(&cluster, DEADLINE).await;
    assert!(
        matches!(error, Err(ClusterError::NoQuorum { .. })),
        "{error:?}"
    );
    assert!(started.elapsed() >= DEADLINE);
    assert!(fake.world().commands.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_an_unknown_outcome_and_all_attempts_have_one_id() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    fake.fault(1, Fault::LosesAnswers);
    let error = propose(&cluster, DEADLINE).await;
    assert!(
        matches!(error, Err(ClusterError::OutcomeUnknown { .. })),
        "{error:?}"
    );
    {
        let world = fake.world();
        assert!(world.commands.len() > 1);
        let first = world.commands[0].0;
        assert!(world.commands.iter().all(|(id, _)| *id == first));
    }
    // A question changes nothing, so nothing about it is unknown.
    let error = cluster
        .query(GROUP, Query::Generation, DEADLINE, None)
        .await;
    assert!(
        matches!(error, Err(ClusterError::NoQuorum { .. })),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_leader_is_asked_again_until_the_deadline() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    fake.fault(1, Fault::Busy);
    let error = propose(&cluster, DEADLINE).await;
    assert!(matches!(error, Err(ClusterError::Busy { .. })), "{error:?}");
    let waiting = propose(&cluster, DEADLINE);
    let relief = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        fake.fault(1, Fault::None);
    };
    let (outcome, ()) = futures_util::future::join(waiting, relief).await;
    outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_asked_for_once_in_ten_seconds() {
    let fake = Fake::new();
    let cluster = fake.cluster().await;
    let answer = cluster
        .query(GroupId::CLUSTER, Query::Cluster, DEADLINE, None)
        .await;
    assert!(matches!(answer, Ok(Answer::Cluster(_))));
    let first = cluster.generation(GROUP).await.unwrap();
    fake.fault(1, Fault::LosesAnswers);
    assert_eq!(cluster.generation(GROUP).await.unwrap(), first);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(cluster.generation(GROUP).await.is_err());
}
