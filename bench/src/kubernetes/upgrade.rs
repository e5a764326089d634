//! All pods get another image under load, and a long download goes on through it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use holdfast_e2e::content::noise;
use holdfast_e2e::gateway::Gateway;
use holdfast_e2e::kubernetes::room::Room;
use holdfast_e2e::kubernetes::traffic::{Patience, Traffic};
use holdfast_e2e::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};

use super::{Amounts, LIMIT, roomy};
use crate::sample::{Figure, figure};

/// Up to 64 MiB.
const SIZES: [usize; 6] = [900, 300_000, 5 << 20, 20_000, 64 << 20, 9 << 20];
/// The long file is made of pieces of this size, each its own noise.
const PIECE: usize = 8 << 20;
/// A long download is no stuck one; the limit is that of the whole of it.
const TRANSFER: Duration = Duration::from_secs(3600);
/// For how long the long download lasts at least: its client is no faster, so
/// that it goes on while nodes and then gateways are replaced.
const LASTS: Duration = Duration::from_secs(60);

/// Measures.
pub async fn measure(room: &Room, amounts: &Amounts) -> Result<Vec<Figure>> {
    let more = json!({"gateway": {"replicas": 2}, "worker": {"replicas": 2}});
    room.apply("demo", &roomy(room, more)).await?;
    room.until_settled("demo", LIMIT).await?;
    let plain = room.gateway("demo").await?;
    let key = room.first_key("demo").await?;
    let patient = Gateway::with_limit(plain.url().to_owned(), key, TRANSFER)?;
    let pieces = (amounts.long_mib << 20).div_ceil(PIECE as u64).max(1);
    let id = upload_long(&patient, pieces).await?;
    let other = amounts.other_tag.as_deref();
    let other = other.context("--other-tag names what to upgrade to")?;
    let mut figures = Vec::new();
    // There and back, again and again.
    let tags = [other, amounts.tag.as_str()].into_iter().cycle();
    for tag in tags.take(amounts.k8s_rounds as usize) {
        figures.extend(upgrade(room, &plain, &patient, &id, pieces, tag).await?);
    }
    Ok(figures)
}

async fn upgrade(
    room: &Room,
    plain: &Gateway,
    patient: &Gateway,
    id: &str,
    pieces: u64,
    tag: &str,
) -> Result<Vec<Figure>> {
    let traffic = Traffic::start_with(plain.clone(), Patience::OneRetry, &SIZES).await?;
    let (gateway, id) = (patient.clone(), id.to_owned());
    let long = tokio::spawn(async move { download_long(&gateway, &id, pieces).await });
    let begun = Instant::now();
    room.change("demo", json!({"image": {"tag": tag}})).await?;
    until("every pod has the image", LIMIT, async || {
        all_have(room, tag).await
    })
    .await?;
    room.until_settled("demo", LIMIT).await?;
    let took = begun.elapsed().as_secs_f64();
    let resumed = long.await.context("the long download")??;
    let tally = traffic.finish().await?;
    let failed = |what: &str| {
        let failed = tally
            .failed
            .iter()
            .filter(|failure| failure.starts_with(what));
        failed.count() as f64
    };
    Ok(vec![
        figure(
            "upgrade of 3 nodes, 2 gateways, 2 workers under load",
            took,
            "s",
        ),
        figure("upgrade: uploads", tally.uploads as f64, ""),
        figure(
            "upgrade: uploads failed after one retry",
            failed("an upload"),
            "",
        ),
        figure("upgrade: downloads", tally.downloads as f64, ""),
        figure(
            "upgrade: downloads failed after one retry",
            failed("a download"),
            "",
        ),
        figure(
            "upgrade: requests tried again",
            tally.cured.len() as f64,
            "",
        ),
        figure(
            "upgrade: long download resumed",
            f64::from(resumed),
            "times, bar 2",
        ),
    ])
}

/// Whether every pod of a part of ours has the image, and there are no others.
async fn all_have(room: &Room, tag: &str) -> Result<()> {
    let ours = "app.kubernetes.io/component in (node, gateway, worker)";
    let pods = room.api::<Pod>();
    let pods = pods.list(&ListParams::default().labels(ours)).await?;
    for pod in &pods.items {
        let spec = pod.spec.as_ref().context("a pod without a spec")?;
        let image = spec.containers.first();
        let image = image.and_then(|container| container.image.as_deref());
        let has = image.and_then(|image| image.rsplit_once(':'));
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        ensure!(
            has.is_some_and(|(_, has)| has == tag),
            "{name} has {image:?}"
        );
    }
    Ok(())
}

async fn upload_long(gateway: &Gateway, pieces: u64) -> Result<String> {
    let body = stream::iter(0..pieces)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::from(noise(piece, PIECE))));
    let response = gateway
        .request(Method::PUT, "/api/upload/long.bin?download_limit=0")
        .body(Body::wrap_stream(body))
        .send()
        .await?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status == StatusCode::CREATED, "upload: {status}: {text}");
    let file: Value = serde_json::from_str(&text)?;
    let id = file.get("file_id").and_then(Value::as_str);
    Ok(id.context("no file_id")?.to_owned())
}

/// Downloads and compares, and goes on by range where it broke off; how often.
async fn download_long(gateway: &Gateway, id: &str, pieces: u64) -> Result<u32> {
    /// A client that was told nothing waits a moment.
    const MOMENT: Duration = Duration::from_secs(1);
    const MOST: u32 = 50;
    let mut check = Check::new(pieces);
    let begun = Instant::now();
    for broken in 0..MOST {
        let path = format!("/api/download/{id}");
        let request = gateway
            .open(Method::GET, &path)
            .header("range", format!("bytes={}-", check.at));
        if let Ok(response) = request.send().await
            && response.status() == StatusCode::PARTIAL_CONTENT
        {
            let mut bytes = response.bytes_stream();
            while let Some(Ok(some)) = bytes.next().await {
                check.compare(&some)?;
                let share = check.at as f64 / check.end as f64;
                let early = LASTS.mul_f64(share).saturating_sub(begun.elapsed());
                tokio::time::sleep(early).await;
            }
        }
        if check.is_done() {
            return Ok(broken);
        }
        tokio::time::sleep(MOMENT).await;
    }
    bail!("broken off {MOST} times, at {} bytes", check.at)
}

/// What has come is as it was sent, so far.
struct Check {
    at: u64,
    end: u64,
    /// The piece that is compared, and which it is.
    piece: (u64, Vec<u8>),
}

impl Check {
    fn new(pieces: u64) -> Self {
        Self {
            at: 0,
            end: pieces * PIECE as u64,
            piece: (0, noise(0, PIECE)),
        }
    }

    fn is_done(&self) -> bool {
        self.at == self.end
    }

    fn compare(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            ensure!(self.at < self.end, "more came than was sent");
            let number = self.at / PIECE as u64;
            if self.piece.0 != number {
                self.piece = (number, noise(number, PIECE));
            }
            let from = (self.at % PIECE as u64) as usize;
            let here = bytes.len().min(PIECE - from);
            let same = self.piece.1[from..from + here] == bytes[..here];
            ensure!(same, "other bytes came at {}", self.at);
            self.at += here as u64;
            bytes = &bytes[here..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_compared_over_the_bounds_of_pieces() {
        let mut check = Check::new(2);
        let all = [noise(0, PIECE), noise(1, PIECE)].concat();
        check.compare(&all[..PIECE - 3]).unwrap();
        check.compare(&all[PIECE - 3..PIECE + 5]).unwrap();
        assert!(!check.is_done());
        check.compare(&all[PIECE + 5..]).unwrap();
        assert!(check.is_done());
        assert!(check.compare(&[1]).is_err());
        assert!(Check::new(1).compare(&[!all[0]]).is_err());
    }
}
