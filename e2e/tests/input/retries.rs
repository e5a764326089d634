//! Uploads that are sent again.

use anyhow::{Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::dev::{Answer, Dev};
use reqwest::Method;

async fn send(dev: &Dev, name: &str, key: &str, bytes: Vec<u8>) -> Result<Answer> {
    let request = dev
        .ask(Method::PUT, &format!("/api/upload/{name}"))
        .header("idempotency-key", key)
        .body(bytes);
    Answer::of(request).await
}

pub async fn a_repeated_idempotency_key_gets_the_first_answer(dev: &Dev) -> Result<()> {
    for (name, size) in [("again-small.bin", 100), ("again-large.bin", 300_000)] {
        let first = send(dev, name, name, noise(3, size)).await?.json(201)?;
        let again = send(dev, name, name, noise(3, size)).await?.json(201)?;
        ensure!(first == again, "{first} and {again}");
        let listed = dev.files(200).await?;
        let count = listed.iter().filter(|(_, found)| found == name).count();
        ensure!(count == 1, "{name} is listed {count} times");
    }
    Ok(())
}

pub async fn an_idempotency_key_with_another_content_is_refused(dev: &Dev) -> Result<()> {
    send(dev, "reused.bin", "reused", noise(4, 100))
        .await?
        .expect(201)?;
    let other = send(dev, "reused.bin", "reused", noise(5, 100)).await?;
    other.problem(422, "idempotency_key_reused")?;
    let long = send(dev, "reused.bin", &"k".repeat(256), noise(5, 100)).await?;
    long.problem(400, "bad_idempotency_key")?;
    Ok(())
}
