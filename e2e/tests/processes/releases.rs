//! A release goes round over real processes: some of them are one release ahead
//! of the others.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::processes::{Cluster, Member, Shape, TOKEN, binary, next_release};
use holdfast_e2e::wait::until;
use serde_json::{Value, json};

use crate::{SETTLE, claim, ensure_eq};

const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// What the programs ahead say that they are.
const NEXT: &str = "0.2.0";
/// What they say beside it.
const WARNING: &str = "FOR TESTS ALONE";
const SERVICES: [&str; 4] = [
    "holdfast-node",
    "holdfast-gateway",
    "holdfast-worker",
    "holdfast-operator",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_finalised_and_then_the_older_one_is_refused() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 2,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::a_program_ahead_says_that_it_is_no_release(
        &mut cluster
    ));
    claim!(self::before_every_node_runs_it_it_is_not_finalised(
        &mut cluster
    ));
    claim!(self::what_was_not_finalised_may_go_back(&mut cluster));
    claim!(self::what_was_finalised_refuses_the_older_one(&mut cluster));
    Ok(())
}

async fn a_program_ahead_says_that_it_is_no_release(_: &mut Cluster) -> Result<()> {
    let says = |program| -> Result<String> {
        let output = Command::new(program).arg("--version").output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    for name in SERVICES {
        let ahead = says(next_release(name)?)?;
        ensure!(
            ahead.starts_with(name) && ahead.contains(WARNING),
            "{ahead}"
        );
        let own = says(binary(name)?)?;
        ensure!(own.starts_with(name) && !own.contains(WARNING), "{own}");
    }
    Ok(())
}

/// Stops a member and starts it with another program.
async fn replace(member: &mut Member, ahead: bool) -> Result<()> {
    member.stop(SETTLE).await?;
    member.take_release(ahead)?;
    member.start()?;
    member.ready().await
}

/// What `POST /api/admin/finalize` answers: status and body.
async fn finalize(cluster: &Cluster) -> Result<(u16, Value)> {
    let client = holdfast_e2e::http::client()?.no_proxy().build()?;
    let url = format!("{}/api/admin/finalize", cluster.gateways[0].url());
    let request = client.post(url).bearer_auth(TOKEN);
    let answer = request.json(&json!({ "to": NEXT })).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// Waits until group 0 has an answer that is not that it cannot be asked.
async fn answered(cluster: &Cluster, wanted: u16) -> Result<Value> {
    until(&format!("the answer {wanted}"), SETTLE, async || {
        let (status, body) = finalize(cluster).await?;
        ensure_eq("the status", status, wanted).with_context(|| body.to_string())?;
        Ok(body)
    })
    .await
}

async fn before_every_node_runs_it_it_is_not_finalised(cluster: &mut Cluster) -> Result<()> {
    let kept = cluster.gateway(0)?;
    let file = kept.upload("kept.txt", b"kept".to_vec(), 0).await?;
    for at in [2, 1] {
        replace(&mut cluster.nodes[at], true).await?;
    }
    let refused = answered(cluster, 409).await?.to_string();
    ensure!(refused.contains("cannot be finalised"), "{refused}");
    let address = format!("127.0.0.1:{}", cluster.nodes[0].port);
    ensure!(refused.contains(&address), "{refused}");
    cluster.gateway(1)?.expect(&file, b"kept").await
}

async fn what_was_not_finalised_may_go_back(cluster: &mut Cluster) -> Result<()> {
    replace(&mut cluster.nodes[2], false).await?;
    replace(&mut cluster.nodes[2], true).await?;
    replace(&mut cluster.nodes[0], true).await
}

async fn what_was_finalised_refuses_the_older_one(cluster: &mut Cluster) -> Result<()> {
    replace(&mut cluster.gateways[0], true).await?;
    for ahead in [&cluster.gateways[0], &cluster.nodes[0]] {
        let said = ahead.program.as_ref().context("it does not run")?.output();
        let first = said.lines().rfind(|line| line.contains("starts"));
        ensure!(first.is_some_and(|line| line.contains(WARNING)), "{said}");
    }
    let done = answered(cluster, 200).await?;
    ensure_eq("the release", done["release"].as_str(), Some(NEXT))?;
    // A gateway of the older release ends by itself, and says why.
    let mut old = cluster.gateways[1].program.take().context("no gateway")?;
    let status = old.wait(ENDS_WITHIN).await?;
    let said = old.output();
    ensure!(!status.success(), "the gateway ended with {status}");
    ensure!(
        said.contains("use an image of release 0.2.0 at least"),
        "{said}"
    );
    // So does a node, without asking anybody: all others are away.
    until("the volumes know it", SETTLE, async || {
        let nodes = cluster.gateway(0)?.json("/api/nodes").await?;
        ensure_eq("the release", nodes["release"].as_str(), Some(NEXT))?;
        for node in &cluster.nodes {
            let debug = node.says("/debug").await?;
            ensure!(debug.contains("release 0.2.0"), "{debug}");
        }
        Ok(())
    })
    .await?;
    cluster.kill_nodes(&[0, 1, 2]);
    let node = &mut cluster.nodes[0];
    node.take_release(false)?;
    node.start()?;
    let mut refused = node.program.take().context("no node")?;
    let status = refused.wait(ENDS_WITHIN).await?;
    let said = refused.output();
    ensure!(!status.success(), "the node ended with {status}");
    ensure!(
        said.contains("this release cannot use the data directory"),
        "{said}"
    );
    node.take_release(true)?;
    cluster.gateways[1].take_release(true)?;
    cluster.up().await?;
    cluster
        .gateway(1)?
        .upload("more.txt", b"more".to_vec(), 0)
        .await?;
    Ok(())
}
