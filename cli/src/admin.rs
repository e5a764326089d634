//! What only an administrator does.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, path_component};
use crate::arguments::{Admin, Keys};
use crate::backup;
use crate::failure::Failure;
use crate::show::{Output, cell, say};
use crate::status;

/// Does it.
pub async fn run(api: &Api, admin: Admin, output: Output) -> Result<(), Failure> {
    match admin {
        Admin::Nodes => {
            let nodes = api.json(api.keyed(Method::GET, "/api/nodes")?).await?;
            if output.json {
                output.value(&nodes);
            } else {
                status::print_nodes(&nodes, output);
            }
            Ok(())
        }
        Admin::Drain { node } => {
            order(api, &node, "drain", output).await?;
            if !output.json {
                say!("{node} is being emptied; `holdfast status` shows how far it is");
            }
            Ok(())
        }
        Admin::Activate { node } => {
            order(api, &node, "activate", output).await?;
            if !output.json {
                say!("{node} takes data again");
            }
            Ok(())
        }
        Admin::Lost { node, yes } => {
            if !yes {
                return Err(Failure::Usage(format!(
                    "what only {node} holds is gone for good then: if that is meant, add --yes"
                )));
            }
            order(api, &node, "lost", output).await?;
            if !output.json {
                say!("{node} is given up; what it held is made again elsewhere");
            }
            Ok(())
        }
        Admin::Finalize { release, yes } => finalize(api, &release, yes, output).await,
        Admin::Backup { file } => backup::run(api, &file, output).await,
        // It was told apart in `main`: it needs no gateway.
        Admin::Restore(_) => Ok(()),
        Admin::Keys(keys) => manage_keys(api, keys, output).await,
    }
}

async fn order(api: &Api, node: &str, what: &str, output: Output) -> Result<(), Failure> {
    let path = format!("/api/admin/nodes/{}/{what}", path_component(node));
    let answer = api.json(api.keyed(Method::POST, &path)?).await?;
    if output.json {
        output.value(&answer);
    }
    Ok(())
}

async fn finalize(api: &Api, release: &str, yes: bool, output: Output) -> Result<(), Failure> {
    if !yes {
        return Err(Failure::Usage(format!(
            "images older than release {release} are refused from then on: if that is meant, add --yes"
        )));
    }
    let body = json!({ "to": release });
    let request = api.keyed(Method::POST, "/api/admin/finalize")?.json(&body);
    let answer = api.json(request).await?;
    if output.json {
        output.value(&answer);
    } else {
        say!(
            "the cluster writes the formats of {}",
            cell(&answer, "formats")
        );
    }
    Ok(())
}

async fn manage_keys(api: &Api, keys: Keys, output: Output) -> Result<(), Failure> {
    const KEYS: &str = "/api/admin/keys";
    match keys {
        Keys::Ls => {
            let answer = api.json(api.keyed(Method::GET, KEYS)?).await?;
            let list = answer.get("keys").unwrap_or(&answer);
            if output.json {
                output.value(list);
                return Ok(());
            }
            let rows: Vec<Vec<String>> = list
                .as_array()
                .into_iter()
                .flatten()
                .map(|key| {
                    ["id", "role", "created_at", "name"]
                        .map(|field| cell(key, field))
                        .to_vec()
                })
                .collect();
            output.table(&["ID", "ROLE", "CREATED", "NAME"], &rows);
        }
        Keys::Add { name, admin } => {
            let role = if admin { "admin" } else { "user" };
            let body = json!({ "name": name, "role": role });
            let made = api.json(api.keyed(Method::POST, KEYS)?.json(&body)).await?;
            print_made(&made, output);
        }
        Keys::Rm { id } => {
            let path = format!("{KEYS}/{}", path_component(&id));
            api.json(api.keyed(Method::DELETE, &path)?).await?;
            if output.json {
                output.value(&json!({ "revoked": id }));
            } else {
                say!("revoked {id}");
            }
        }
    }
    Ok(())
}

fn print_made(made: &Value, output: Output) {
    if output.json {
        output.value(made);
        return;
    }
    say!("id    {}", cell(made, "id"));
    say!("token {}", cell(made, "token"));
    eprintln!("the token is not shown again");
}
