//! The schemas that operations answer with.

use serde_json::{Map, Value, json};

/// Each by its name.
pub(super) fn all() -> Value {
    let text = || json!({"type": "string"});
    let maybe_text = || json!({"type": ["string", "null"]});
    let maybe_number = || json!({"type": ["integer", "null"]});
    json!({
        "Object": {"type": "object"},
        "Problem": {"type": "object", "required": ["title", "status", "code", "request_id"], "properties": {
            "type": text(), "title": text(), "status": {"type": "integer"}, "detail": text(),
            "code": text(), "request_id": text(),
        }},
        "File": {"type": "object", "required": ["file_id", "size", "mime_type", "sha256", "created_at", "download_url"], "properties": {
            "file_id": text(), "filename": maybe_text(), "size": {"type": "integer"}, "mime_type": text(),
            "sha256": text(), "created_at": text(), "expires_at": maybe_text(),
            "download_limit": maybe_number(), "downloads_left": maybe_number(),
            "password_protected": {"type": "boolean"}, "has_thumbnail": {"type": "boolean"},
            "download_url": text(), "delete_token": text(),
        }},
        "FilePage": {"type": "object", "required": ["files"], "properties": {
            "files": {"type": "array", "items": {"$ref": "#/components/schemas/File"}},
            "next_cursor": maybe_text(),
        }},
        "Stats": stats(),
        "AccessKey": {"type": "object", "required": ["id", "name", "role"], "properties": {
            "id": text(), "name": text(), "role": {"enum": ["admin", "user"]}, "created_at": text(), "token": text(),
        }},
    })
}

fn stats() -> Value {
    let number = || json!({"type": "integer"});
    let numbers = |names: &[&str]| -> Map<String, Value> {
        let named = names.iter().map(|name| ((*name).to_owned(), number()));
        named.collect()
    };
    let object = |names: &[&str], more: &[(&str, Value)]| {
        let mut properties = numbers(names);
        properties.extend(
            more.iter()
                .map(|(name, of)| ((*name).to_owned(), of.clone())),
        );
        let required: Vec<String> = properties.keys().cloned().collect();
        json!({"type": "object", "required": required, "properties": properties})
    };
    let counts = [
        "objects",
        "degraded",
        "unavailable",
        "lost",
        "missing_fragments",
        "silent_disks",
        "epoch",
    ];
    let redundancy = object(
        &[&counts[..], &["chunks"]].concat(),
        &[
            ("complete", json!({"type": "boolean"})),
            (
                "uncounted_groups",
                json!({"type": "array", "items": number()}),
            ),
            ("as_of", json!({"type": ["string", "null"]})),
        ],
    );
    let redundancy = with(
        redundancy,
        "description",
        json!(
            "The census of fragments on disks: counts of objects. Where it is not complete, \
             groups have not been counted in this layout or do not answer"
        ),
    );
    let repair = with(
        object(&["degraded_chunks", "lost_chunks", "chunks_to_copy"], &[]),
        "description",
        json!("What is known to be copied again: not whether all is well"),
    );
    let census = with(
        object(&counts, &[("as_of", json!({"type": "string"}))]),
        "type",
        json!(["object", "null"]),
    );
    let group = object(
        &["group"],
        &[
            ("has_leader", json!({"type": "boolean"})),
            ("totals", json!({"type": ["object", "null"]})),
            ("census", census),
        ],
    );
    let whole = [
        "objects",
        "bytes",
        "uploads",
        "tickets",
        "garbage",
        "capacity_bytes",
        "free_bytes",
        "nodes",
        "nodes_up",
    ];
    let tasks = object(&["pending", "running", "failed", "done"], &[]);
    object(
        &whole,
        &[
            ("redundancy", redundancy),
            ("repair", repair),
            ("tasks", tasks),
            ("groups", json!({"type": "array", "items": group})),
        ],
    )
}

/// A schema with one of its fields set, or another in its place.
fn with(mut schema: Value, field: &str, value: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    schema
}
