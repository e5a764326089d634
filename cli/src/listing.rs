//! Lists and deletes files.

use reqwest::Method;
use serde_json::Value;

use crate::api::{Api, path_component};
use crate::arguments::{Ls, Rm};
use crate::failure::Failure;
use crate::show::{Output, cell, say, size_cell};

/// Files asked for at once.
const PAGE: u64 = 200;

/// Lists files, newest first.
pub async fn list(api: &Api, ls: &Ls, output: Output) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut cursor: Option<String> = None;
    let mut left = if ls.limit == 0 { u64::MAX } else { ls.limit };
    loop {
        let mut request = api
            .keyed(Method::GET, "/api/files")?
            .query(&[("limit", left.min(PAGE))]);
        if let Some(cursor) = &cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let page = api.json(request).await?;
        let files = page.get("files").and_then(Value::as_array);
        for file in files.into_iter().flatten().take(left as usize) {
            left -= 1;
            if output.json {
                output.value(file);
            } else {
                rows.push(row(file));
            }
        }
        cursor = page
            .get("next_cursor")
            .or_else(|| page.get("cursor"))
            .and_then(Value::as_str)
            .map(str::to_owned);
        if cursor.is_none() || left == 0 {
            break;
        }
    }
    if !output.json {
        output.table(&["ID", "SIZE", "CREATED", "EXPIRES", "LEFT", "NAME"], &rows);
        if cursor.is_some() {
            eprintln!("there are more: --limit 0 lists all");
        }
    }
    Ok(())
}

fn row(file: &Value) -> Vec<String> {
    vec![
        cell(file, "file_id"),
        size_cell(file, "size"),
        cell(file, "created_at"),
        cell(file, "expires_at"),
        cell(file, "downloads_left"),
        cell(file, "filename"),
    ]
}

/// Deletes files.
pub async fn remove(api: &Api, rm: &Rm, output: Output) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for id in &rm.ids {
        let path = format!("/api/files/{}", path_component(id));
        let request = match &rm.delete_token {
            Some(token) => Ok(api
                .open(Method::DELETE, &path)
                .header("holdfast-delete-token", token)),
            None => api.keyed(Method::DELETE, &path),
        };
        match async { api.json(request?).await }.await {
            Ok(_) if output.json => output.value(&serde_json::json!({ "deleted": id })),
            Ok(_) => say!("deleted {id}"),
            Err(failure) => {
                if rm.ids.len() > 1 {
                    eprintln!("holdfast: {id}: {failure}");
                }
                failed.push(failure);
            }
        }
    }
    let count = failed.len();
    match (failed.pop(), rm.ids.len()) {
        (None, _) => Ok(()),
        (Some(failure), 1) => Err(failure),
        (Some(_), all) => Err(Failure::Some { failed: count, all }),
    }
}
