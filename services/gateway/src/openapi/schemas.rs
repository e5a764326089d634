//! The schemas that operations answer with.

use serde_json::{Value, json};

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
        "AccessKey": {"type": "object", "required": ["id", "name", "role"], "properties": {
            "id": text(), "name": text(), "role": {"enum": ["admin", "user"]}, "created_at": text(), "token": text(),
        }},
    })
}
