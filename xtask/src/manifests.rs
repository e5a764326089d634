//! Which crate may depend on which: the arrows of the architecture, read from
//! the manifests.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A crate's directory, and the directories under which its own dependencies
/// among our crates may lie.
const ARROWS: &[(&str, &[&str])] = &[
    ("crates/model", &[]),
    ("crates/plan", &["crates/model", "crates/crd"]),
    ("crates/sim", &["crates", "services"]),
    ("crates", &["crates"]),
    ("services", &["crates"]),
    ("operator", &["crates"]),
    ("cli", &["crates", "services"]),
    ("e2e/ahead", &["crates/model", "services", "operator"]),
    ("e2e", &["crates"]),
    ("bench", &["crates", "services", "e2e"]),
    ("xtask", &[]),
];

/// Crates that tests alone may use.
const ONLY_FOR_TESTS: &[&str] = &["crates/sim"];

/// What pure crates may not use: anything that reaches the world.
const PURE: &[&str] = &["crates/model", "crates/plan"];
const REACHES_THE_WORLD: &[&str] = &[
    "tokio",
    "reqwest",
    "axum",
    "hyper",
    "redb",
    "rustix",
    "lapin",
    "redis",
    "kube",
    "getrandom",
    "tempfile",
];

/// One dependency of one of our crates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Arrow {
    /// The crate's directory.
    from: String,
    /// Another crate's directory, or a library's name.
    to: String,
    /// Whether `to` is one of ours.
    ours: bool,
    /// Whether only tests use it.
    test_only: bool,
}

/// Reads the manifests and checks them.
pub fn check() -> Result<()> {
    let wrong = faults(&read()?);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn read() -> Result<Vec<Arrow>> {
    let output = crate::cargo()
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .output()?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let root = text(&metadata, "workspace_root")?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata names no packages")?;
    let directory = |path: &str| {
        path.trim_start_matches(root)
            .trim_start_matches('/')
            .trim_end_matches("/Cargo.toml")
            .to_owned()
    };
    let mut arrows = Vec::new();
    for package in packages {
        let from = directory(text(package, "manifest_path")?);
        for dependency in package
            .get("dependencies")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let path = dependency.get("path").and_then(Value::as_str);
            arrows.push(Arrow {
                from: from.clone(),
                to: path.map_or_else(
                    || text(dependency, "name").map(str::to_owned),
                    |path| Ok(directory(path)),
                )?,
                ours: path.is_some(),
                test_only: dependency.get("kind").and_then(Value::as_str) == Some("dev"),
            });
        }
    }
    Ok(arrows)
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("cargo metadata has no {name}"))
}

fn lies_under(path: &str, directory: &str) -> bool {
    path == directory
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// What is wrong, a sentence each.
fn faults(arrows: &[Arrow]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Arrow {
        from,
        to,
        ours,
        test_only,
    } in arrows
    {
        if !ours {
            let pure = PURE.contains(&from.as_str());
            if pure && !test_only && REACHES_THE_WORLD.contains(&to.as_str()) {
                wrong.push(format!("{from} does no IO and may not use {to}"));
            }
            continue;
        }
        if ONLY_FOR_TESTS.contains(&to.as_str()) {
            if !test_only {
                wrong.push(format!("{to} is for tests; {from} may not depend on it"));
            }
            continue;
        }
        match ARROWS.iter().find(|(place, _)| lies_under(from, place)) {
            None => wrong.push(format!("{from} has no place in the architecture")),
            Some((_, allowed)) => {
                if !allowed.iter().any(|place| lies_under(to, place)) {
                    wrong.push(format!("{from} may not depend on {to}"));
                }
            }
        }
    }
    wrong.extend(cycles(arrows));
    wrong
}

/// Crates that depend on themselves through tests, which cargo allows.
fn cycles(arrows: &[Arrow]) -> Vec<String> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in arrows
        .iter()
        .filter(|arrow| arrow.ours && !ONLY_FOR_TESTS.contains(&arrow.to.as_str()))
    {
        next.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let reaches_itself = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(at) = waiting.pop() {
            for to in next.get(at).into_iter().flatten() {
                if *to == start {
                    return true;
                }
                if seen.insert(*to) {
                    waiting.push(to);
                }
            }
        }
        false
    };
    next.keys()
        .filter(|start| reaches_itself(start))
        .map(|start| format!("{start} depends on itself"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(from: &str, to: &str) -> Arrow {
        Arrow {
            from: from.into(),
            to: to.into(),
            ours: true,
            test_only: false,
        }
    }

    #[test]
    fn the_manifests_keep_to_the_architecture() {
        let arrows = read().unwrap();
        assert!(arrows.len() > 20, "the manifests were not read");
        assert_eq!(faults(&arrows), Vec::<String>::new());
    }

    #[test]
    fn forbidden_arrows_are_found() {
        for (from, to) in [
            ("crates/model", "crates/runtime"),
            ("crates/client", "services/node"),
            ("services/gateway", "services/node"),
            ("services/node", "operator"),
            ("crates/metadata", "crates/sim"),
            ("e2e", "services/node"),
            ("e2e", "e2e/ahead"),
            ("somewhere/else", "crates/model"),
        ] {
            assert_eq!(faults(&[ours(from, to)]).len(), 1, "{from} -> {to}");
        }
        for (from, to) in [
            ("services/gateway", "crates/client"),
            ("cli", "services/node"),
            ("e2e/ahead", "operator"),
            ("crates/sim", "services/node"),
        ] {
            assert!(faults(&[ours(from, to)]).is_empty(), "{from} -> {to}");
        }
    }

    #[test]
    fn pure_crates_reach_nothing_of_the_world() {
        let arrow = Arrow {
            ours: false,
            ..ours("crates/model", "tokio")
        };
        assert_eq!(faults(&[arrow]).len(), 1);
    }

    #[test]
    fn a_cycle_through_tests_is_found() {
        let mut back = ours("crates/runtime", "crates/client");
        back.test_only = true;
        let found = faults(&[ours("crates/client", "crates/runtime"), back]);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
