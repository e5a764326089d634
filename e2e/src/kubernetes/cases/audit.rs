//! The rights that the chart gives, held against those that were used and those
//! that were refused: a right that nobody uses is one too many, and one that was
//! asked for and that the chart does not give is one too few.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde_json::Value;

use crate::room::Room;

/// Names the API server's audit log, of which it can be read who did what.
const LOG: &str = "HOLDFAST_AUDIT_LOG";
/// Who the operator is there.
const OPERATOR: &str = "system:serviceaccount:holdfast-system:holdfast-operator";
/// What gives it its rights, in all namespaces and in its own.
const CLUSTER_ROLE: &str = "holdfast-system:holdfast-operator";
const ROLE: &str = "holdfast-operator-lease";

/// Rights that few cases make use of, each with one that does. What is not
/// here is used by whatever makes a cluster.
const RARE: [(&str, &str, &str); 15] = [
    ("configmaps", "delete", TAKEN_AWAY),
    ("deployments", "delete", TAKEN_AWAY),
    ("events", "list", "volumes_that_cannot_grow_are_told"),
    ("horizontalpodautoscalers", "create", TAKEN_AWAY),
    ("horizontalpodautoscalers", "delete", TAKEN_AWAY),
    ("horizontalpodautoscalers", "patch", TAKEN_AWAY),
    ("ingresses", "create", TAKEN_AWAY),
    ("ingresses", "delete", TAKEN_AWAY),
    ("ingresses", "patch", TAKEN_AWAY),
    (
        "leases",
        "create",
        "the_namespaces_of_store_and_operator_go_at_once",
    ),
    ("networkpolicies", "delete", TAKEN_AWAY),
    (
        "persistentvolumeclaims",
        "delete",
        "a_lost_node_is_replaced_when_named",
    ),
    ("services", "delete", TAKEN_AWAY),
    ("statefulsets", "delete", TAKEN_AWAY),
    ("storageclasses", "get", "volumes_that_cannot_grow_are_told"),
];
const TAKEN_AWAY: &str = "what_is_no_longer_asked_for_is_taken_away";
/// To do something with a kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

pub async fn every_right_that_is_given_is_used(room: &Room) -> Result<()> {
    let Ok(log) = std::env::var(LOG) else {
        println!("      skipped: {LOG} names no audit log");
        return Ok(());
    };
    if room.passed.is_empty() {
        println!("      skipped: no other case has run, whose use of rights could be seen");
        return Ok(());
    }
    let Asked { used, refused } = read(&log)?;
    ensure!(!used.is_empty(), "{log} has nothing of {OPERATOR}");
    let granted = granted(room).await?;
    // What the chart gives is refused while a case takes it away, and while the
    // chart goes.
    let missing: Vec<String> = refused.difference(&granted).map(Right::to_string).collect();
    ensure!(
        missing.is_empty(),
        "asked for and not given: {}",
        missing.join(", ")
    );
    // Kinds of others, which this cluster may not have.
    let groups = room.api_groups().await?;
    let idle: Vec<String> = granted
        .into_iter()
        .filter(|right| right.group.is_empty() || groups.contains(&right.group))
        .filter(|right| !is_used(right, &used) && expected(right, &room.passed))
        .map(|right| right.to_string())
        .collect();
    ensure!(idle.is_empty(), "given and not used: {}", idle.join(", "));
    Ok(())
}

/// Server-side apply makes what is not there: it needs the right to create, and
/// the log calls it a patch.
fn is_used(right: &Right, used: &BTreeSet<Right>) -> bool {
    let applied = || Right {
        verb: "patch".into(),
        ..right.clone()
    };
    used.contains(right) || right.verb == "create" && used.contains(&applied())
}

/// Whether the cases that have passed cannot have done without it.
fn expected(right: &Right, passed: &[&str]) -> bool {
    let rare = RARE
        .iter()
        .find(|(resource, verb, _)| *resource == right.resource && *verb == right.verb);
    rare.is_none_or(|(_, _, case)| passed.contains(case))
}

async fn granted(room: &Room) -> Result<BTreeSet<Right>> {
    let role = room.everywhere::<ClusterRole>().get(CLUSTER_ROLE).await?;
    let own = room.beside_the_operator::<Role>().get(ROLE).await?;
    let rules = role.rules.into_iter().chain(own.rules).flatten();
    Ok(rules.flat_map(|rule| rights_of(&rule)).collect())
}

fn rights_of(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                rights.push(Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                });
            }
        }
    }
    rights
}

/// What the operator has asked for.
#[derive(Default)]
struct Asked {
    used: BTreeSet<Right>,
    refused: BTreeSet<Right>,
}

/// What the operator has asked for, as far back as the log goes: files that were
/// full lie beside it, as `audit-TIME.log` of an `audit.log`.
fn read(log: &str) -> Result<Asked> {
    let log = Path::new(log);
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    let full = format!("{stem}-");
    let mut asked = Asked::default();
    for entry in log
        .parent()
        .context("the log is in no directory")?
        .read_dir()?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path == log || name.starts_with(&full) && path.extension() == log.extension() {
            read_file(&path, &mut asked).with_context(|| format!("cannot read {name}"))?;
        }
    }
    Ok(asked)
}

fn read_file(log: &Path, asked: &mut Asked) -> Result<()> {
    for line in BufReader::new(std::fs::File::open(log)?).lines() {
        let line = line?;
        // Most lines are of others, and parsing them all would take its time.
        if line.contains(OPERATOR) {
            let event = serde_json::from_str(&line)?;
            if is_refused(&event) {
                asked.refused.extend(right_of(&event));
            } else if !is_denied(&event) {
                asked.used.extend(right_of(&event));
            }
        }
    }
    Ok(())
}

/// Whether a right was missing.
fn is_refused(event: &Value) -> bool {
    let annotations = event.get("annotations");
    let decision = annotations.and_then(|all| all.get("authorization.k8s.io/decision"));
    decision.and_then(Value::as_str) == Some("forbid")
}

/// Whether it came to nothing, for whatever reason: a quota answers like that too.
fn is_denied(event: &Value) -> bool {
    event.pointer("/responseStatus/code") == Some(&Value::from(403))
}

/// What the operator asked for; `None` of anybody else.
fn right_of(event: &Value) -> Option<Right> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str);
    if text("/user/username") != Some(OPERATOR) {
        return None;
    }
    let resource = text("/objectRef/resource")?;
    let part = text("/objectRef/subresource").map(|part| format!("/{part}"));
    Some(Right {
        group: text("/objectRef/apiGroup").unwrap_or_default().to_owned(),
        resource: format!("{resource}{}", part.unwrap_or_default()),
        verb: text("/verb")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_the_log_is_the_right_that_was_used() {
        let mut event = json!({
            "verb": "patch",
            "user": {"username": OPERATOR},
            "objectRef": {"apiGroup": "holdfast.dev", "resource": "storageclusters", "subresource": "status"},
            "responseStatus": {"code": 200},
            "annotations": {"authorization.k8s.io/decision": "allow"},
        });
        let right = right_of(&event).unwrap();
        assert_eq!(
            right.to_string(),
            "patch storageclusters/status.holdfast.dev"
        );
        assert!(!is_refused(&event) && !is_denied(&event));
        event["responseStatus"]["code"] = json!(403);
        assert!(!is_refused(&event) && is_denied(&event), "a quota");
        event["annotations"]["authorization.k8s.io/decision"] = json!("forbid");
        assert!(is_refused(&event));
        event["user"]["username"] = json!("somebody");
        assert!(right_of(&event).is_none());
    }

    #[test]
    fn logs_that_were_full_are_read_as_well_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, verb: &str| {
            let event = json!({
                "verb": verb,
                "user": {"username": OPERATOR},
                "objectRef": {"resource": "pods"},
                "responseStatus": {"code": 200},
            });
            std::fs::write(directory.path().join(name), format!("{event}\n")).unwrap();
        };
        write("audit.log", "get");
        write("audit-2026-11-29T15-58-41.517.log", "list");
        write("kubelet.log", "delete");
        let log = directory.path().join("audit.log");
        let asked = read(log.to_str().unwrap()).unwrap();
        let used: Vec<String> = asked.used.iter().map(Right::to_string).collect();
        assert_eq!(used, ["get pods", "list pods"]);
    }

    #[test]
    fn a_rule_is_every_verb_of_every_kind_in_it() {
        let rule = PolicyRule {
            api_groups: Some(vec!["apps".into()]),
            resources: Some(vec!["statefulsets".into(), "deployments".into()]),
            verbs: vec!["get".into(), "list".into()],
            ..PolicyRule::default()
        };
        assert_eq!(rights_of(&rule).len(), 4);
    }

    #[test]
    fn rare_rights_name_cases_that_there_are() {
        let all = super::super::all();
        for (_, _, name) in RARE {
            assert!(all.iter().any(|case| case.name == name), "{name}");
        }
    }
}
