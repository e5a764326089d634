//! What the API says of itself, and what `holdfast dev` prints.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::dev::{Answer, Dev, holdfast, text};
use reqwest::Method;
use serde_json::Value;

/// The routes that were designed.
const ROUTES: [(&str, &str); 11] = [
    ("post", "/api/upload"),
    ("put", "/api/upload/{filename}"),
    ("get", "/api/download/{file_id}"),
    ("head", "/api/download/{file_id}"),
    ("get", "/api/files"),
    ("get", "/api/files/{file_id}"),
    ("delete", "/api/files/{file_id}"),
    ("get", "/api/files/{file_id}/thumbnail"),
    ("get", "/api/nodes"),
    ("get", "/api/stats"),
    ("get", "/api/tasks"),
];

pub async fn every_route_is_described_and_answers(dev: &Dev) -> Result<()> {
    let document = Answer::of(dev.open(Method::GET, "/api/openapi.json"))
        .await?
        .json(200)?;
    ensure!(text(&document, "openapi")?.starts_with("3."), "no OpenAPI");
    let paths = document["paths"].as_object().context("no paths")?;
    for (method, path) in ROUTES {
        ensure!(
            paths.get(path).is_some_and(|all| all[method].is_object()),
            "{method} {path}"
        );
    }
    for (path, methods) in paths {
        for method in methods.as_object().context("no methods")?.keys() {
            if method == "parameters" {
                continue;
            }
            let concrete = path
                .replace("{file_id}", &"0".repeat(32))
                .replace("{filename}", "x.txt")
                .replace("{action}", "drain")
                .replace("{id}", &"0".repeat(32));
            ensure!(!concrete.contains('{'), "{path} has an unknown parameter");
            let name = Method::from_bytes(method.to_uppercase().as_bytes())?;
            let answer = Answer::of(dev.ask(name, &concrete)).await?;
            let body = String::from_utf8_lossy(&answer.body);
            let served =
                answer.status < 500 && answer.status != 405 && !body.contains("\"no_such_route\"");
            ensure!(served, "{method} {path}: {} {body:.300}", answer.status);
        }
    }
    Answer::of(dev.ask(Method::GET, "/api/nothing"))
        .await?
        .problem(404, "no_such_route")?;
    let wrong = Answer::of(dev.ask(Method::PATCH, "/api/files")).await?;
    ensure!(wrong.header("allow").contains("GET"), "{:?}", wrong.headers);
    wrong.problem(405, "method_not_allowed")?;
    Ok(())
}

pub async fn a_request_id_is_echoed(dev: &Dev) -> Result<()> {
    let ask = |id: &str| {
        dev.open(Method::GET, "/api/files")
            .header("x-request-id", id)
    };
    let own = Answer::of(ask("my-own_id.1")).await?;
    ensure!(
        own.header("x-request-id") == "my-own_id.1",
        "{:?}",
        own.headers
    );
    own.problem(401, "missing_credential")?;
    // What could forge lines of a log is replaced.
    let odd = Answer::of(ask("a b\" c")).await?;
    let given = odd.header("x-request-id").to_owned();
    ensure!(
        given.len() == 32 && given.bytes().all(|b| b.is_ascii_hexdigit()),
        "{given}"
    );
    Ok(())
}

pub async fn the_printed_lines_work(dev: &Dev) -> Result<()> {
    let place = dev.directory("printed")?;
    let readme = b"# What is printed works as it stands\n";
    std::fs::write(place.join("README.md"), readme)?;
    let beside = holdfast()?;
    let programs = beside
        .parent()
        .context("no directory")?
        .display()
        .to_string();
    let path = format!("{programs}:{}", std::env::var("PATH")?);
    let printed = dev.greeting.lines().map(str::trim);
    let lines: Vec<&str> = printed
        .filter(|line| line.starts_with("curl ") || line.starts_with("holdfast "))
        .collect();
    ensure!(lines.len() == 6, "not six lines: {lines:?}");
    let mut id = String::new();
    for line in lines {
        let line = line.replace("FILE_ID", &id);
        // What is fetched comes under the name it was uploaded under.
        let fetches = line.contains("/api/download/") || line.contains(" get ");
        if fetches {
            std::fs::remove_file(place.join("README.md"))?;
        }
        let output = Command::new("sh")
            .args(["-c", &line])
            .env("PATH", &path)
            .env_remove("HOLDFAST_KEY")
            .env_remove("HOLDFAST_URL")
            .current_dir(&place)
            .output()?;
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(output.status.success(), "{line}: {said}{complained}");
        if line.contains("-T README.md") {
            id = text(&serde_json::from_str::<Value>(&said)?, "file_id")?;
        }
        if fetches {
            ensure!(
                std::fs::read(place.join("README.md"))? == readme,
                "{line}: other bytes"
            );
        }
    }
    Ok(())
}
