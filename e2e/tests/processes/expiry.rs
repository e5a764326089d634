//! What has expired is not served, and after its grace its bytes are gone from
//! the disks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::processes::{Cluster, SECRET, Shape};
use holdfast_e2e::wait::until;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{SETTLE, claim, ensure_eq};

/// Long enough to look at three disks in.
const GRACE: Duration = Duration::from_secs(15);
/// More than fits a command.
const BYTES: usize = 300_000;
/// Where in the file the bytes that are looked for begin, and how many.
const MARKERS: [usize; 3] = [0, 150_001, BYTES - 64];
const MARKER_BYTES: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_is_gone() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        workers: 1,
        // Without it the deletion waits until its task is published again.
        queue: true,
        node_settings: vec![("HOLDFAST_EXPIRY_GRACE", format!("{}s", GRACE.as_secs()))],
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(
        self::an_expired_file_is_kept_unseen_for_its_grace_and_then_leaves_every_disk(&mut cluster)
    );
    Ok(())
}

async fn an_expired_file_is_kept_unseen_for_its_grace_and_then_leaves_every_disk(
    cluster: &mut Cluster,
) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let bytes = noise(77, BYTES);
    let path = "/api/upload/short.bin?expires_in=2s&download_limit=0";
    let put = gateway.request(Method::PUT, path).body(bytes.clone());
    let response = put.send().await?;
    ensure_eq("the upload", response.status(), StatusCode::CREATED)?;
    let file: Value = serde_json::from_str(&response.text().await?)?;
    let id = file["file_id"].as_str().context("no file_id")?;

    // A copy that was late is there as soon as it is counted.
    until("all three copies", SETTLE, async || {
        let fragments = fragments(cluster).await?;
        ensure!(fragments == [1, 1, 1], "{fragments:?}");
        Ok(())
    })
    .await?;
    until("the end of the file", SETTLE, async || {
        let status = gateway.download(id).await?.status();
        ensure!(status != StatusCode::OK, "it is served");
        ensure_eq("the refusal", status, StatusCode::GONE)
    })
    .await?;
    for node in &cluster.nodes {
        let found = markers_in(&node.data, &bytes)?;
        ensure!(
            found == MARKERS.len(),
            "{found} markers on {} within the grace",
            node.name
        );
    }
    ensure_eq(
        "fragments within the grace",
        fragments(cluster).await?,
        vec![1; 3],
    )?;

    until("fragments gone", GRACE + SETTLE, async || {
        let fragments = fragments(cluster).await?;
        ensure!(fragments == [0, 0, 0], "{fragments:?}");
        Ok(())
    })
    .await?;
    // The answer to a delete does not wait for the hole.
    until("bytes gone", SETTLE, async || {
        for node in &cluster.nodes {
            let found = markers_in(&node.data, &bytes)?;
            ensure!(found == 0, "{found} markers on {}", node.name);
        }
        Ok(())
    })
    .await
}

/// How many fragments each node has; its list and its count must agree.
async fn fragments(cluster: &Cluster) -> Result<Vec<u64>> {
    let client = holdfast_e2e::http::client()?.build()?;
    let mut counts = Vec::new();
    for node in &cluster.nodes {
        let mut views = Vec::new();
        for path in ["/files", "/stats"] {
            let url = format!("{}{path}", node.url());
            let response = client.get(url).bearer_auth(SECRET).send().await?;
            let text = response.error_for_status()?.text().await?;
            views.push(serde_json::from_str::<Value>(&text)?);
        }
        let listed = views[0]["files"].as_array().context("no list")?.len() as u64;
        let counted = views[1]["fragments"].as_u64().context("no count")?;
        ensure!(listed == counted, "{listed} listed, {counted} counted");
        counts.push(counted);
    }
    Ok(counts)
}

/// How many of the file's markers are anywhere in a node's directory.
fn markers_in(directory: &Path, bytes: &[u8]) -> Result<usize> {
    let mut found = [false; MARKERS.len()];
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
            continue;
        }
        let Ok(content) = fs::read(&path) else {
            // Removed since it was listed.
            continue;
        };
        for (found, at) in found.iter_mut().zip(MARKERS) {
            *found |= contains(&content, &bytes[at..at + MARKER_BYTES]);
        }
    }
    Ok(found.iter().filter(|found| **found).count())
}

/// Whether `content`, mostly zeros, holds `wanted`.
fn contains(content: &[u8], wanted: &[u8]) -> bool {
    const PAGE: usize = 4_096;
    static ZEROS: [u8; PAGE] = [0; PAGE];
    (0..content.len()).step_by(PAGE).any(|from| {
        let page = &content[from..content.len().min(from + PAGE)];
        if page == &ZEROS[..page.len()] {
            return false;
        }
        let end = content.len().min(from + PAGE + wanted.len());
        let reach = &content[from..end];
        reach.windows(wanted.len()).any(|window| window == wanted)
    })
}
