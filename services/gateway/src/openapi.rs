//! The description of the API (OpenAPI 3.1), made from one table that a test
//! compares with the router.

mod schemas;

use axum::Json;
use serde_json::{Map, Value, json};

/// Who may call an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Anybody; a file's id is what is needed, and its password where it has one.
    Anybody,
    /// Any access key.
    Key,
    /// An access key, or the file's delete token.
    KeyOrToken,
    /// An admin's access key.
    Admin,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The method, in lower case.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Who may.
    pub who: Who,
    /// The status of success.
    pub success: &'static str,
    /// What success answers: a schema's name, a media type, or nothing.
    pub answer: Answer,
    /// Parameters of the query and headers, as (in, name, type).
    pub parameters: &'static [(&'static str, &'static str, &'static str)],
    /// Codes of errors that this operation may answer beside the common ones.
    pub errors: &'static [&'static str],
}

/// What an operation answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// JSON of a schema below.
    Schema(&'static str),
    /// Bytes of a media type.
    Bytes(&'static str),
    /// Nothing.
    Empty,
}

const WISHES: &[(&str, &str, &str)] = &[
    ("query", "expires_in", "string"),
    ("query", "download_limit", "integer"),
    ("header", "Holdfast-Password", "string"),
    ("header", "Idempotency-Key", "string"),
];
const PAGE: &[(&str, &str, &str)] = &[("query", "limit", "integer"), ("query", "cursor", "string")];
const READ: &[(&str, &str, &str)] = &[
    ("header", "Holdfast-Password", "string"),
    ("header", "Holdfast-Ticket", "string"),
    ("header", "Range", "string"),
    ("header", "If-None-Match", "string"),
    ("header", "If-Range", "string"),
];
const UPLOAD_ERRORS: &[&str] = &[
    "file_missing",
    "part_repeated",
    "bad_file_name",
    "bad_duration",
    "bad_mime_type",
    "incomplete_body",
    "body_timeout",
    "too_large",
    "idempotency_key_reused",
    "not_enough_nodes",
    "disk_full",
];
const READ_ERRORS: &[&str] = &[
    "no_such_file",
    "expired",
    "download_limit_reached",
    "ticket_ended",
    "password_needed",
    "wrong_password",
    "too_many_passwords",
    "precondition_failed",
    "range_not_satisfiable",
    "data_unavailable",
];

/// All operations.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        method: "post",
        path: "/api/upload",
        summary: "Upload a file as multipart/form-data: part file, and optionally expires_in, download_limit, password",
        who: Who::Key,
        success: "201",
        answer: Answer::Schema("File"),
        parameters: &[("header", "Idempotency-Key", "string")],
        errors: UPLOAD_ERRORS,
    },
    Operation {
        method: "put",
        path: "/api/upload/{filename}",
        summary: "Upload a file as raw body",
        who: Who::Key,
        success: "201",
        answer: Answer::Schema("File"),
        parameters: WISHES,
        errors: UPLOAD_ERRORS,
    },
    Operation {
        method: "get",
        path: "/api/download/{file_id}",
        summary: "Download a file; counts against its limit",
        who: Who::Anybody,
        success: "200",
        answer: Answer::Bytes("application/octet-stream"),
        parameters: READ,
        errors: READ_ERRORS,
    },
    Operation {
        method: "head",
        path: "/api/download/{file_id}",
        summary: "Ask about a download; does not count",
        who: Who::Anybody,
        success: "200",
        answer: Answer::Empty,
        parameters: READ,
        errors: READ_ERRORS,
    },
    Operation {
        method: "get",
        path: "/api/files",
        summary: "List files, newest first: one's own, or all with an admin key",
        who: Who::Key,
        success: "200",
        answer: Answer::Schema("FilePage"),
        parameters: PAGE,
        errors: &["bad_cursor", "no_quorum"],
    },
    Operation {
        method: "get",
        path: "/api/files/{file_id}",
        summary: "Describe a file",
        who: Who::Key,
        success: "200",
        answer: Answer::Schema("File"),
        parameters: &[],
        errors: &["no_such_file", "expired"],
    },
    Operation {
        method: "delete",
        path: "/api/files/{file_id}",
        summary: "Delete a file",
        who: Who::KeyOrToken,
        success: "204",
        answer: Answer::Empty,
        parameters: &[("header", "Holdfast-Delete-Token", "string")],
        errors: &["no_such_file", "wrong_delete_token"],
    },
    Operation {
        method: "get",
        path: "/api/files/{file_id}/thumbnail",
        summary: "The thumbnail of a picture",
        who: Who::Anybody,
        success: "200",
        answer: Answer::Bytes("image/*"),
        parameters: &[("header", "Holdfast-Password", "string")],
        errors: &[
            "no_such_file",
            "not_ready",
            "thumbnail_failed",
            "no_thumbnail",
            "expired",
            "password_needed",
            "wrong_password",
        ],
    },
    Operation {
        method: "get",
        path: "/api/nodes",
        summary: "Storage nodes with zone, state and capacity",
        who: Who::Key,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[],
        errors: &[],
    },
    Operation {
        method: "get",
        path: "/api/stats",
        summary: "Totals with the redundancy census: objects that are degraded, unavailable, lost",
        who: Who::Key,
        success: "200",
        answer: Answer::Schema("Stats"),
        parameters: &[],
        errors: &[],
    },
    Operation {
        method: "get",
        path: "/api/tasks",
        summary: "Tasks with attempts and errors",
        who: Who::Admin,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[("query", "status", "string"), ("query", "limit", "integer")],
        errors: &["no_quorum"],
    },
    Operation {
        method: "get",
        path: "/api/openapi.json",
        summary: "This description",
        who: Who::Anybody,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[],
        errors: &[],
    },
    Operation {
        method: "post",
        path: "/api/admin/keys",
        summary: "Make an access key: {name, role}; its token is told once",
        who: Who::Admin,
        success: "201",
        answer: Answer::Schema("AccessKey"),
        parameters: &[],
        errors: &["bad_json", "conflict"],
    },
    Operation {
        method: "get",
        path: "/api/admin/keys",
        summary: "List access keys",
        who: Who::Admin,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[],
        errors: &[],
    },
    Operation {
        method: "delete",
        path: "/api/admin/keys/{id}",
        summary: "Revoke an access key; not the last admin's",
        who: Who::Admin,
        success: "204",
        answer: Answer::Empty,
        parameters: &[],
        errors: &["no_such_access_key", "conflict"],
    },
    Operation {
        method: "post",
        path: "/api/admin/nodes/{id}/{action}",
        summary: "Set a node's state: drain, lost or activate",
        who: Who::Admin,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[],
        errors: &["no_such_node", "conflict"],
    },
    Operation {
        method: "post",
        path: "/api/admin/finalize",
        summary: "Let the cluster write the formats of its next release: {to}; there is no way back",
        who: Who::Admin,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[],
        errors: &["bad_json", "conflict"],
    },
    Operation {
        method: "get",
        path: "/api/admin/status",
        summary: "The cluster's state, nodes and groups",
        who: Who::Admin,
        success: "200",
        answer: Answer::Schema("Object"),
        parameters: &[],
        errors: &[],
    },
    Operation {
        method: "get",
        path: "/api/admin/backup",
        summary: "A backup of all metadata, as one file",
        who: Who::Admin,
        success: "200",
        answer: Answer::Bytes("application/vnd.holdfast.backup"),
        parameters: &[],
        errors: &["cluster_not_ready"],
    },
];

/// Codes that every operation may answer.
const COMMON_ERRORS: &[&str] = &[
    "bad_parameter",
    "missing_credential",
    "unknown_scheme",
    "unknown_credential",
    "not_allowed",
    "too_many_requests",
    "busy",
    "cluster_not_ready",
    "no_quorum",
    "outcome_unknown",
    "node_unreachable",
    "internal",
];

/// `GET /api/openapi.json`.
pub async fn describe() -> Json<Value> {
    Json(document())
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths
            .entry(operation.path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(operation.method.into(), describe_operation(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The HTTP API of files. Errors are problem documents (RFC 9457) with a stable code.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas::all(),
        },
    })
}

fn describe_operation(operation: &Operation) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({"in": "path", "name": name, "required": true, "schema": {"type": "string"}}))
    });
    let others = operation.parameters.iter().map(|(place, name, kind)| {
        json!({"in": place, "name": name, "required": false, "schema": {"type": kind}})
    });
    let parameters: Vec<Value> = in_path.chain(others).collect();
    let content = match operation.answer {
        Answer::Schema(name) => {
            let schema = format!("#/components/schemas/{name}");
            json!({"application/json": {"schema": {"$ref": schema}}})
        }
        Answer::Bytes(mime) => json!({mime: {"schema": {"type": "string", "format": "binary"}}}),
        Answer::Empty => json!({}),
    };
    let success = json!({"description": operation.summary, "content": content});
    let codes: Vec<&str> = operation
        .errors
        .iter()
        .chain(COMMON_ERRORS)
        .copied()
        .collect();
    let security = match operation.who {
        Who::Anybody => json!([{}]),
        Who::KeyOrToken => json!([{"key": []}, {}]),
        Who::Key | Who::Admin => json!([{"key": []}]),
    };
    json!({
        "summary": operation.summary,
        "parameters": parameters,
        "security": security,
        "x-role": format!("{:?}", operation.who),
        "responses": {
            operation.success: success,
            "default": {
                "description": format!("A problem; code is one of {}", codes.join(", ")),
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    })
}
