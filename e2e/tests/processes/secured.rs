//! Everything on its way is encrypted, and certificates and the credential are
//! exchanged while all runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::http::{client, client_of};
use holdfast_e2e::processes::{Authority, Cluster, SECRET, Secured, Shape, believing};
use holdfast_e2e::wait::until;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{SETTLE, claim, ensure_eq};

/// What is new in a file is used after this time, on a machine with time for it.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
const CLIENTS: u64 = 3;
const NEXT_SECRET: &str = "the-next-credential-of-tests";

/// The authorities of the test.
struct World {
    files: Arc<Secured>,
    old: Authority,
    new: Authority,
    /// That of RabbitMQ and Redis, which are not exchanged.
    carriers: Authority,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_is_encrypted_and_rotated_under_load() -> Result<()> {
    let world = World {
        files: Arc::new(Secured::new()?),
        old: Authority::new("old")?,
        new: Authority::new("new")?,
        carriers: Authority::new("carriers")?,
    };
    let World {
        files,
        old,
        new,
        carriers,
    } = &world;
    files.certify("internal", old, &[old, carriers])?;
    files.certify("public", old, &[old])?;
    files.certify("carriers", carriers, &[carriers])?;
    files.credential(SECRET, "")?;
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        workers: 1,
        queue: true,
        secured: Some((files.clone(), believing(&[old, new])?)),
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::files_go_in_and_out(&mut cluster));
    claim!(self::plain_http_is_refused(&mut cluster));
    let start = std::time::Instant::now();
    let refused = another_authority_is_refused(&cluster, &world).await;
    crate::told("another_authority_is_refused", start, refused, &cluster)?;
    claim!(self::queue_and_cache_are_reached(&mut cluster));
    let start = std::time::Instant::now();
    let rotated = a_rotation_fails_no_request(&cluster, &world).await;
    crate::told("a_rotation_fails_no_request", start, rotated, &cluster)
}

async fn files_go_in_and_out(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    for (seed, size) in [(1, 3_000), (2, 9 << 20)] {
        let bytes = noise(seed, size);
        let id = gateway.upload("a.bin", bytes.clone(), 0).await?;
        gateway.expect(&id, &bytes).await?;
        let told = gateway.json(&format!("/api/files/{id}")).await?;
        let url = told["download_url"].as_str().unwrap_or_default();
        ensure!(url.starts_with("https://"), "{told}");
    }
    Ok(())
}

async fn plain_http_is_refused(cluster: &mut Cluster) -> Result<()> {
    let ports = cluster.nodes.iter().chain(&cluster.gateways);
    for port in ports.map(|member| member.port) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        // It is closed, or reset.
        let _ = tokio::time::timeout(SETTLE, stream.read_to_end(&mut answer)).await?;
        ensure!(!answer.starts_with(b"HTTP"), "{port} answers {answer:?}");
    }
    Ok(())
}

async fn another_authority_is_refused(cluster: &Cluster, world: &World) -> Result<()> {
    let (node, gateway) = (&cluster.nodes[0], &cluster.gateways[0]);
    for url in [
        format!("{}/health", node.url()),
        format!("{}/healthz", gateway.url()),
    ] {
        let right = client_of(&believing(&[&world.old])?)?.build()?;
        right.get(&url).send().await?.error_for_status()?;
        for wrong in [client()?, client_of(&believing(&[&world.new])?)?] {
            let answer = wrong.build()?.get(&url).send().await;
            let error = answer
                .err()
                .with_context(|| format!("{url} was believed"))?;
            let told = format!("{error:?}");
            ensure!(told.contains("InvalidCertificate"), "{told}");
        }
    }
    Ok(())
}

async fn queue_and_cache_are_reached(cluster: &mut Cluster) -> Result<()> {
    let gateway = &cluster.gateways[0];
    for metric in ["holdfast_queue_healthy", "holdfast_cache_healthy"] {
        until(metric, SETTLE, async || {
            ensure_eq(metric, gateway.metric(metric).await?, 1.0)
        })
        .await?;
    }
    Ok(())
}

async fn a_rotation_fails_no_request(cluster: &Cluster, world: &World) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let load = Load::default();
    let clients = try_join_all((0..CLIENTS).map(|seed| load.client(&gateway, seed)));
    let rotation = async {
        let rotated = rotate(cluster, world, &load).await;
        load.stop.store(true, Ordering::Relaxed);
        rotated
    };
    let (clients, rotated) = tokio::join!(clients, rotation);
    rotated?;
    clients?;
    println!("{} requests", load.done.load(Ordering::Relaxed));
    let old = client_of(&believing(&[&world.old])?)?.build()?;
    let url = format!("{}/health", cluster.nodes[0].url());
    ensure!(
        old.get(url).send().await.is_err(),
        "the old certificate is shown"
    );
    for member in cluster.nodes.iter().chain(&cluster.gateways) {
        let failures = "holdfast_tls_reload_failures_total";
        let told = member.says("/metrics").await?;
        ensure!(!told.contains(failures), "{}: {told}", member.name);
        let ends = "holdfast_tls_certificate_not_after_seconds{use=\"internal\"}";
        ensure!(member.metric(ends).await? > 1.0e9, "{}", member.name);
    }
    Ok(())
}

async fn rotate(cluster: &Cluster, world: &World, load: &Load) -> Result<()> {
    let World {
        files,
        old,
        new,
        carriers,
    } = world;
    load.more(20).await?;
    let first = loaded(cluster).await?;
    let authorities = |count| {
        move |now: &Value, _: &Value| {
            now["tls"]["authorities"].as_array().map(Vec::len) == Some(count)
        }
    };
    files.believe("internal", &[old, new, carriers])?;
    everywhere(cluster, &first, authorities(3)).await?;

    files.certify("internal", new, &[old, new, carriers])?;
    files.certify("public", new, &[new])?;
    let other = |now: &Value, before: &Value| {
        let differs = |which: &str| {
            before["tls"][which].is_null() || now["tls"][which] != before["tls"][which]
        };
        differs("internal") && differs("public")
    };
    everywhere(cluster, &first, other).await?;
    files.believe("internal", &[new, carriers])?;
    everywhere(cluster, &first, authorities(2)).await?;
    load.more(20).await?;

    let credentials = |now: &Value| now["credentials"]["cluster"].clone();
    let count = |now: &Value| credentials(now).as_array().map(Vec::len);
    files.credential(SECRET, NEXT_SECRET)?;
    everywhere(cluster, &first, |now, _| count(now) == Some(2)).await?;
    files.credential(NEXT_SECRET, SECRET)?;
    let shown = |now: &Value, before: &Value| {
        count(now) == Some(2) && credentials(now)[0] != credentials(before)[0]
    };
    everywhere(cluster, &first, shown).await?;
    load.more(20).await?;
    files.credential(NEXT_SECRET, "")?;
    everywhere(cluster, &first, |now, _| count(now) == Some(1)).await?;
    load.more(20).await
}

/// What each process has loaded.
async fn loaded(cluster: &Cluster) -> Result<Vec<Value>> {
    let all = cluster.nodes.iter().chain(&cluster.gateways);
    let asked = all.chain(&cluster.workers).map(async |member| {
        let said = member.says("/debug/loaded").await?;
        Ok(serde_json::from_str(&said)?)
    });
    try_join_all(asked).await
}

/// Waits until it holds of each process, by what it has loaded and had before.
async fn everywhere(
    cluster: &Cluster,
    before: &[Value],
    holds: impl Fn(&Value, &Value) -> bool,
) -> Result<()> {
    until("it is loaded", TAKEN_WITHIN, async || {
        let now = loaded(cluster).await?;
        let mut both = now.iter().zip(before);
        ensure!(both.all(|(now, before)| holds(now, before)), "{now:?}");
        Ok(())
    })
    .await
}

/// Clients that upload and read until they are told to stop, or one fails.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    done: AtomicU64,
}

impl Load {
    async fn client(&self, gateway: &Gateway, client: u64) -> Result<()> {
        for round in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let bytes = noise(client * 100_000 + round, 100_000);
            let id = gateway.upload("load.bin", bytes.clone(), 0).await?;
            gateway.expect(&id, &bytes).await?;
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn more(&self, count: u64) -> Result<()> {
        let before = self.done.load(Ordering::Relaxed);
        until("requests go on", SETTLE, async || {
            let done = self.done.load(Ordering::Relaxed) - before;
            ensure!(done >= count, "{done} of {count}");
            Ok(())
        })
        .await
    }
}
