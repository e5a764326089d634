//! The chart in a cluster.

use anyhow::Result;

use super::access::Cluster;
use super::images::Images;

const NAME: &str = "holdfast";
const NAMESPACE: &str = "holdfast-system";
const CHART: &str = "charts/holdfast";
const DEFINITION: &str = "storageclusters.holdfast.dev";
/// What the suite labels its namespaces with.
const CASES: &str = "holdfast.dev/e2e=true";

/// Whether somebody has installed it.
pub fn is_installed(cluster: &Cluster) -> bool {
    // Helm keeps a Secret for each of a release's revisions.
    let secrets = format!("--selector=owner=helm,name={NAME}");
    let list = [
        "get",
        "secrets",
        "--output",
        "name",
        "--namespace",
        NAMESPACE,
    ];
    cluster
        .kubectl(&[&list[..], &[&secrets]].concat())
        .is_ok_and(|found| !found.is_empty())
}

/// Installs the chart, or upgrades it, and waits until the operator is ready.
pub fn install(cluster: &Cluster, images: &Images, log: &str) -> Result<()> {
    let tag = format!("image.tag={}", images.operator);
    // So that the example of the README runs what was built here.
    let default_tag = format!("defaultTag={}", images.store);
    // A comma separates values.
    let log = format!("log.level={}", log.replace(',', "\\,"));
    cluster.helm(&[
        "upgrade",
        NAME,
        CHART,
        "--install",
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--set",
        "image.repository=holdfast/operator",
        "--set",
        &tag,
        "--set",
        &default_tag,
        "--set",
        &log,
        // One run after another leaves the definition behind.
        "--take-ownership",
        "--wait",
        "--timeout",
        "2m",
    ])
}

/// Runs the chart's own test.
pub fn test(cluster: &Cluster) -> Result<()> {
    cluster.helm(&["test", NAME, "--namespace", NAMESPACE, "--timeout", "1m"])
}

/// Removes the namespaces of all cases, while there still is an operator.
pub fn remove_namespaces(cluster: &Cluster) -> Result<()> {
    let arguments = ["delete", "namespace", "--selector", CASES];
    cluster
        .kubectl(&[&arguments[..], &["--ignore-not-found", "--timeout", "2m"]].concat())
        .map(drop)
}

/// Removes the release, and what it leaves behind where nobody uses it.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    let quiet = ["--ignore-not-found", "--wait", "--timeout", "1m"];
    let named = ["uninstall", NAME, "--namespace", NAMESPACE];
    cluster.helm(&[&named[..], &quiet].concat())?;
    cluster.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"])?;
    let list = ["get", DEFINITION, "--all-namespaces", "--output", "name"];
    // Without the definition there is nothing to list.
    if cluster.kubectl(&list).is_ok_and(|left| left.is_empty()) {
        cluster.kubectl(&["delete", "crd", DEFINITION, "--ignore-not-found"])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::root;

    /// Whoever takes over the operator is to get no more than what it does.
    #[test]
    fn the_operator_is_given_no_right_to_give_itself_others() {
        for file in ["_rules.tpl", "rbac.yaml"] {
            let path = root().join(super::CHART).join("templates").join(file);
            let rules: Vec<String> = fs::read_to_string(path)
                .unwrap()
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("verbs:") || line.starts_with("resources:"))
                .map(str::to_owned)
                .collect();
            assert!(!rules.is_empty(), "{file} has no rules");
            for word in ["*", "escalate", "bind", "impersonate", "roles", "pods/exec"] {
                assert!(
                    !rules.iter().any(|rule| rule.contains(word)),
                    "{file} gives {word}"
                );
            }
        }
    }
}
