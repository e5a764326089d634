//! The `holdfast` command against it.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::dev::{Dev, text};
use serde_json::Value;

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn json(output: &Output) -> Result<Value> {
    ensure!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).with_context(|| said(output))
}

pub async fn a_file_goes_round_by_the_command(dev: &Dev) -> Result<()> {
    let place = dev.directory("command")?;
    let run = |arguments: &[&str]| dev.run(&place, arguments);
    let bytes = noise(15, 9_000_000);
    let name = "Rundreise 文件.bin";
    std::fs::write(place.join(name), &bytes)?;
    let put = [
        "--json",
        "put",
        name,
        "--limit",
        "1",
        "--expires",
        "1h",
        "--password",
        "geheim",
    ];
    let file = json(&run(&put)?)?;
    let id = text(&file, "file_id")?;
    ensure!(
        file["filename"] == name && file["download_limit"] == 1,
        "{file}"
    );
    let listed = run(&["--json", "ls", "--limit", "0"])?;
    ensure!(
        String::from_utf8(listed.stdout)?
            .lines()
            .any(|line| line.contains(&id))
    );
    let got = run(&["get", &id, "-o", "back.bin", "--password", "geheim"])?;
    ensure!(got.status.success(), "{}", said(&got));
    ensure!(
        std::fs::read(place.join("back.bin"))? == bytes,
        "other bytes"
    );
    let again = run(&["get", &id, "-o", "again.bin", "--password", "geheim"])?;
    ensure!(again.status.code() == Some(5), "{}", said(&again));
    ensure!(!place.join("again.bin").exists(), "something was written");
    let removed = run(&["rm", &id])?;
    ensure!(removed.status.success(), "{}", said(&removed));
    let status = json(&run(&["--json", "status"])?)?;
    ensure!(status["stats"]["nodes_up"] == 3, "{status}");
    let key = run(&["key"])?;
    ensure!(
        String::from_utf8(key.stdout)?.trim() == dev.key,
        "another key"
    );
    let nodes = json(&run(&["--json", "admin", "nodes"])?)?;
    ensure!(
        nodes["nodes"].as_array().map(Vec::len) == Some(3),
        "{nodes}"
    );
    Ok(())
}

pub async fn the_command_says_by_its_exit_code_what_went_wrong(dev: &Dev) -> Result<()> {
    let place = dev.directory("wrong")?;
    std::fs::write(place.join("a"), "a")?;
    let file = json(&dev.run(&place, &["--json", "put", "a", "--password", "geheim"])?)?;
    let id = text(&file, "file_id")?;
    let nothing = "0".repeat(32);
    let cases: [(&[&str], i32, &str); 12] = [
        (&["put", "missing"], 1, "No such file"),
        (&["put", "."], 2, "has no name"),
        (&["put", "a", "--expires", "banana"], 2, "duration"),
        (&["put"], 2, "required"),
        (&["get", &id, "--password", "geheim"], 2, "exists"),
        (&["get", &id, "-o", "b"], 4, "password"),
        (
            &["get", &id, "-o", "b", "--password", "falsch"],
            4,
            "password is wrong",
        ),
        (&["get", &nothing, "-o", "b"], 5, "no such file"),
        (&["--key", "wrong", "ls"], 4, "--key"),
        (&["rm", &nothing], 5, "no such file"),
        (&["admin", "drain", &nothing], 5, "admin nodes"),
        (&["admin", "lost", &nothing], 2, "--yes"),
    ];
    for (arguments, code, sentence) in cases {
        let output = dev.run(&place, arguments)?;
        let all = said(&output);
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?}: {:?} {all}",
            output.status
        );
        ensure!(
            all.contains(sentence) && !all.contains("panicked"),
            "{arguments:?}: {all}"
        );
    }
    ensure!(!place.join("b").exists(), "something was written");
    Ok(())
}

pub async fn a_backup_is_written_whole_or_not_at_all(dev: &Dev) -> Result<()> {
    let place = dev.directory("backup")?;
    let first = dev.run(&place, &["admin", "backup", "meta.backup"])?;
    ensure!(first.status.success(), "{}", said(&first));
    let size = std::fs::metadata(place.join("meta.backup"))?.len();
    ensure!(size > 1_000, "{size} bytes are no backup");
    let again = dev.run(&place, &["admin", "backup", "meta.backup"])?;
    ensure!(again.status.code() == Some(2), "{}", said(&again));
    let wrong = dev.run(&place, &["--key", "wrong", "admin", "backup", "other"])?;
    ensure!(wrong.status.code() == Some(4), "{}", said(&wrong));
    ensure!(!place.join("other").exists() && !place.join("other.part").exists());
    Ok(())
}
