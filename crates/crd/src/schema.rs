//! What the schemas of several parts have in common, as Kubernetes wants it.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, SchemaGenerator, json_schema};

/// A quantity as a bounded string, so that rules can read it.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|k|m)?$"
    })
}

/// Writes numbers in the formats that Kubernetes knows. It warns of others, and
/// checks nothing by them; that none is negative is said by `minimum`.
pub(crate) fn known_formats(schema: &mut Schema) {
    RecursiveTransform(known_format).transform(schema);
}

fn known_format(schema: &mut Schema) {
    let known = match schema.get("format").and_then(|format| format.as_str()) {
        Some("uint32") => "int32",
        Some("uint64") => "int64",
        _ => return,
    };
    schema.insert("format".into(), known.into());
}
