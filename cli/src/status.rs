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
    print_tree(&stats, 0);
    Ok(())
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
                cell(node, "health"),
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
