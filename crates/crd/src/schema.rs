//! What the schemas of several parts have in common, and how they are written
//! so that an API server takes them: formats that it knows, no `nullable`.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// The longest value of an annotation: some controllers take whole files there.
const MAX_ANNOTATION_CHARACTERS: u32 = 16 << 10;
/// The most annotations.
const MAX_ANNOTATIONS: u32 = 64;

/// A quantity as a bounded string, so that rules can read it.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|k|m)?$"
    })
}

/// Annotations, bounded.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": MAX_ANNOTATION_CHARACTERS},
        "maxProperties": MAX_ANNOTATIONS
    })
}

/// Writes a schema, and all below it, as Kubernetes wants it.
pub(crate) fn for_kubernetes(schema: &mut Schema) {
    RecursiveTransform(|schema: &mut Schema| {
        known_format(schema);
        without_null(schema);
        short_description(schema);
    })
    .transform(schema);
}

/// It warns of formats that it does not know, and checks nothing by them; that
/// no number is negative is said by `minimum`.
fn known_format(schema: &mut Schema) {
    let known = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => "int32",
        Some("uint64") => "int64",
        _ => return,
    };
    schema.insert("format".into(), known.into());
}

/// A null that is not `nullable` is taken for a field that was left out, which is
/// what it means here; rules with `has()` then never see one.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    // An optional enumeration: itself, or null.
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (name, value) in only {
                schema.ensure_object().entry(name).or_insert(value);
            }
        }
    }
}

/// Kubernetes' page about quantities, six times, would be half of the definition.
fn short_description(schema: &mut Schema) {
    let is_page = |text: &Value| {
        text.as_str()
            .is_some_and(|text| text.starts_with("Quantity is a fixed-point"))
    };
    if schema.get("description").is_some_and(is_page) {
        schema.insert("description".into(), "A quantity, as 500m or 2Gi.".into());
    }
}
