//! The state of the cluster on one page.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Api;
use crate::failure::Failure;
use crate::show::{Output, cell, say, size_cell};

/// Prints nodes and totals.
pub async fn run(api: &Api, output: Output) -> Result<(), Failure> {
    let stats = api.json(api.keyed(Method::GET, "/api/stats")?).await?;
    let nodes = api.json(api.keyed(Method::GET, "/api/nodes")?).await?;
    if output.json {
        output.value(&json!({ "stats": stats, "nodes": nodes }));
        return Ok(());
    }
    print_nodes(&nodes, output);
    say!("");
    say!("{}", verdict(&stats));
    say!("");
    print_tree(&stats, 0);
    Ok(())
}

/// Whether every object has its copies, in a sentence: what was counted, when,
/// and what was not.
fn verdict(stats: &Value) -> String {
    let told = stats.get("redundancy").unwrap_or(&Value::Null);
    let count = |name: &str| told.get(name).and_then(Value::as_u64);
    let (Some(objects), Some(degraded), Some(unavailable), Some(lost), Some(missing)) = (
        count("objects"),
        count("degraded"),
        count("unavailable"),
        count("lost"),
        count("missing_fragments"),
    ) else {
        // One of an earlier release counts chunks in a queue.
        return "the gateway does not tell how many objects lack copies".into();
    };
    let counted = match degraded + unavailable + lost + missing {
        0 => "every counted object has all its copies".to_owned(),
        _ => format!(
            "of {objects} objects {degraded} are degraded, {unavailable} unavailable, \
             {lost} lost; {missing} fragments are missing"
        ),
    };
    let when = match told.get("as_of") {
        Some(Value::String(_)) => format!("{counted} (as of {})", cell(told, "as_of")),
        _ => "no object has been counted yet".to_owned(),
    };
    let groups = told.get("uncounted_groups").and_then(Value::as_array);
    let groups: Vec<String> = groups.into_iter().flatten().map(Value::to_string).collect();
    match told.get("complete").and_then(Value::as_bool) {
        Some(true) => when,
        _ if groups.is_empty() => format!("{when}; not every group answers"),
        _ => format!("{when}; not counted: groups {}", groups.join(", ")),
    }
}

/// A node may answer while its disk does not.
fn health_cell(node: &Value) -> String {
    let health = cell(node, "health");
    match node.get("disk_hangs").and_then(Value::as_bool) {
        Some(true) => format!("{health}, disk hangs"),
        _ => health,
    }
}

/// Prints the nodes of an answer of `/api/nodes`.
pub fn print_nodes(nodes: &Value, output: Output) {
    let list = nodes.get("nodes").unwrap_or(nodes).as_array();
    let rows: Vec<Vec<String>> = list
        .into_iter()
        .flatten()
        .map(|node| {
            vec![
                cell(node, "id"),
                cell(node, "address"),
                cell(node, "zone"),
                cell(node, "state"),
                health_cell(node),
                cell(node, "release"),
                size_cell(node, "used_bytes"),
                size_cell(node, "capacity_bytes"),
            ]
        })
        .collect();
    output.table(
        &[
            "NODE", "ADDRESS", "ZONE", "STATE", "HEALTH", "RELEASE", "USED", "OF",
        ],
        &rows,
    );
}

/// Prints an object as lines, what lies inside it further in.
fn print_tree(value: &Value, depth: usize) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let indent = "  ".repeat(depth);
        let label = name.replace('_', " ");
        match inner {
            Value::Object(_) => {
                say!("{indent}{label}");
                print_tree(inner, depth + 1);
            }
            Value::Array(items) => say!("{indent}{label}: {}", items.len()),
            _ if name.contains("bytes") || name == "capacity" || name == "used" => {
                say!("{indent}{label}: {}", size_cell(value, name));
            }
            _ => say!("{indent}{label}: {}", cell(value, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(change: impl FnOnce(&mut Value)) -> Value {
        let mut stats = json!({"redundancy": {
            "objects": 60, "degraded": 0, "unavailable": 0, "lost": 0, "missing_fragments": 0,
            "complete": true, "uncounted_groups": [], "as_of": "2026-01-01T00:00:05Z",
        }});
        change(&mut stats["redundancy"]);
        stats
    }

    #[test]
    fn it_is_said_in_a_sentence_what_lacks_copies_and_when_it_was_counted() {
        assert_eq!(
            verdict(&stats(|_| {})),
            "every counted object has all its copies (as of 2026-01-01T00:00:05Z)"
        );
        let wrong = stats(|told| {
            told["degraded"] = 15.into();
            told["lost"] = 2.into();
        });
        assert_eq!(
            verdict(&wrong),
            "of 60 objects 15 are degraded, 0 unavailable, 2 lost; 0 fragments are missing \
             (as of 2026-01-01T00:00:05Z)"
        );
        let missing = stats(|told| told["missing_fragments"] = 1.into());
        assert!(verdict(&missing).contains("1 fragments are missing"));
    }

    #[test]
    fn a_node_that_answers_without_its_disk_is_not_just_up() {
        let node = |hangs| json!({"health": "up", "disk_hangs": hangs});
        assert_eq!(health_cell(&node(true)), "up, disk hangs");
        assert_eq!(health_cell(&node(false)), "up");
        assert_eq!(health_cell(&json!({"health": "up"})), "up");
    }

    #[test]
    fn what_was_not_counted_is_named_and_never_called_whole() {
        let part = stats(|told| {
            told["complete"] = false.into();
            told["uncounted_groups"] = json!([2, 3]);
        });
        assert!(verdict(&part).ends_with("; not counted: groups 2, 3"));
        let silent = stats(|told| told["complete"] = false.into());
        assert!(verdict(&silent).ends_with("; not every group answers"));
        let none = stats(|told| {
            told["complete"] = false.into();
            told["as_of"] = Value::Null;
            told["uncounted_groups"] = json!([1]);
        });
        assert_eq!(
            verdict(&none),
            "no object has been counted yet; not counted: groups 1"
        );
        let older =
            json!({"redundancy": {"chunks": 3, "degraded": 0, "lost": 0, "complete": true}});
        assert!(verdict(&older).contains("does not tell"));
    }
}
