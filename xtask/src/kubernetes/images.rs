//! Images tagged by what is in them, so that what is unchanged is neither built
//! nor loaded again, and a changed one is never taken for the one before it.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::access::Cluster;
use crate::{execute, root};

/// A command that takes images' names and puts these images on every machine of
/// the cluster.
const LOADER_VARIABLE: &str = "HOLDFAST_IMAGE_LOADER";

/// The images of a store. They share a tag, since a StorageCluster names one.
const STORE: [&str; 3] = ["storage", "gateway", "worker"];
const OPERATOR: [&str; 1] = ["operator"];
/// What an image holds beside the command that all hold.
const COMMAND: &str = "holdfast";

/// The tags of the images.
pub struct Images {
    /// Of the operator's: a change to it alone rolls no store.
    pub operator: String,
    /// Of all of a store's.
    pub store: String,
}

impl Images {
    fn names(&self) -> Vec<String> {
        let operator = OPERATOR.map(|kind| name(kind, &self.operator));
        let store = STORE.map(|kind| name(kind, &self.store));
        operator.into_iter().chain(store).collect()
    }
}

/// The same images of a store by another tag, to go to and come back from.
pub fn by_another_name(images: &Images) -> Result<Images> {
    let store = format!("{}-other", images.store);
    for kind in STORE {
        execute(Command::new("docker").args([
            "tag",
            &name(kind, &images.store),
            &name(kind, &store),
        ]))?;
    }
    Ok(Images {
        operator: images.operator.clone(),
        store,
    })
}

fn name(kind: &str, tag: &str) -> String {
    format!("holdfast/{kind}:{tag}")
}

/// Builds those images that are not there yet, of programs that lie in
/// `prebuilt`, a directory of the repository.
pub fn build(prebuilt: &str) -> Result<Images> {
    let images = Images {
        operator: tag_of(&OPERATOR, prebuilt)?,
        store: tag_of(&STORE, prebuilt)?,
    };
    for (kinds, tag) in [(&OPERATOR[..], &images.operator), (&STORE, &images.store)] {
        for kind in kinds {
            build_one(kind, &name(kind, tag), prebuilt)?;
        }
    }
    Ok(images)
}

fn build_one(kind: &str, image: &str, prebuilt: &str) -> Result<()> {
    let there = Command::new("docker")
        .args(["image", "inspect", image])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("docker is needed to build images")?;
    if there.success() {
        return Ok(());
    }
    execute(
        Command::new("docker")
            .args(["build", "--quiet", "--build-arg", "BINARIES=prebuilt"])
            .args(["--build-arg", &format!("PREBUILT={prebuilt}")])
            .args(["--file", &format!("Dockerfile.{kind}"), "--tag", image, "."])
            .current_dir(root())
            .env("DOCKER_BUILDKIT", "1")
            .stdout(Stdio::null()),
    )
}

/// Names what goes into these images.
fn tag_of(kinds: &[&str], prebuilt: &str) -> Result<String> {
    let prebuilt = root().join(prebuilt);
    let mut paths = vec![prebuilt.join(COMMAND)];
    for kind in kinds {
        paths.push(root().join(format!("Dockerfile.{kind}")));
        paths.push(prebuilt.join(program(kind)));
    }
    // Without a key of its own it gives the same for the same on every run.
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        bytes.hash(&mut hasher);
    }
    Ok(format!("c-{:016x}", hasher.finish()))
}

fn program(kind: &str) -> String {
    match kind {
        "storage" => "holdfast-node".to_owned(),
        other => format!("holdfast-{other}"),
    }
}

/// Puts on the machines what they do not have.
pub fn load(cluster: &Cluster, images: &Images) -> Result<()> {
    let machines = cluster.kubectl(&["get", "nodes", "--output", "json"])?;
    let absent = absent(&serde_json::from_str(&machines)?, images.names());
    if absent.is_empty() {
        return Ok(());
    }
    if let Ok(loader) = std::env::var(LOADER_VARIABLE) {
        let mut words = loader.split_whitespace();
        let program = words
            .next()
            .with_context(|| format!("{LOADER_VARIABLE} is empty"))?;
        // Its words may be paths, as seen from the repository.
        return execute(
            Command::new("sh")
                .args(["-c", "exec \"$0\" \"$@\"", program])
                .args(words)
                .args(absent)
                .current_dir(root())
                .stdout(Stdio::null()),
        );
    }
    let Some(kind) = &cluster.kind else {
        bail!("how do images get into this cluster? name a command in {LOADER_VARIABLE}");
    };
    execute(
        Command::new("kind")
            .args(["load", "docker-image", "--name", kind])
            .args(absent),
    )
}

/// Those that some machine does not report. A machine reports its 50 largest
/// images only; what it has and does not report is loaded once more.
fn absent(machines: &Value, names: Vec<String>) -> Vec<String> {
    let reported: Vec<BTreeSet<&str>> = machines
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|machine| {
            let images = machine.pointer("/status/images").and_then(Value::as_array);
            images
                .into_iter()
                .flatten()
                .filter_map(|image| image.get("names").and_then(Value::as_array))
                .flatten()
                .filter_map(Value::as_str)
                .map(|name| name.trim_start_matches("docker.io/"))
                .collect()
        })
        .collect();
    names
        .into_iter()
        .filter(|name| {
            reported.is_empty() || !reported.iter().all(|names| names.contains(name.as_str()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::binaries;

    #[test]
    fn an_image_is_loaded_unless_every_machine_reports_it() {
        let machine = |names: &[&str]| json!({"status": {"images": [{"names": names}]}});
        let ours = || vec!["holdfast/storage:c-1".to_owned()];
        let has = machine(&["docker.io/holdfast/storage:c-1"]);
        let other = machine(&["docker.io/holdfast/storage:c-2"]);
        let all = |items: Value| json!({ "items": items });
        assert!(absent(&all(json!([has, has])), ours()).is_empty());
        assert_eq!(absent(&all(json!([has, other])), ours()), ours());
        assert_eq!(absent(&all(json!([])), ours()), ours());
        assert_eq!(absent(&all(json!([{}])), ours()), ours());
    }

    #[test]
    fn every_image_has_its_program_and_its_dockerfile() {
        for kind in OPERATOR.iter().chain(&STORE) {
            let program = program(kind);
            assert!(binaries::BINARIES.contains(&program.as_str()));
            let text = fs::read_to_string(root().join(format!("Dockerfile.{kind}"))).unwrap();
            assert!(text.contains(&format!("/out/{program} ")), "{kind}");
        }
    }

    /// They build once for all images only while they are the same text.
    #[test]
    fn the_stages_that_dockerfiles_share_are_alike() {
        let shared = |kind: &str| {
            let text = fs::read_to_string(root().join(format!("Dockerfile.{kind}"))).unwrap();
            let from = text.find("ARG BINARIES").unwrap();
            let to = text.find("FROM debian").unwrap();
            text[from..to].to_owned()
        };
        let first = shared("operator");
        for program in binaries::BINARIES {
            assert!(first.contains(&format!(" {program}")), "{program}");
        }
        for kind in STORE {
            assert!(shared(kind) == first, "Dockerfile.{kind}");
        }
    }
}
