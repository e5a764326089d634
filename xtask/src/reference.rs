//! The reference of every field of StorageCluster, made of its definition.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

/// Where it is kept.
pub const KEPT: &str = "docs/storagecluster.md";

const HEAD: &str = "\
# StorageCluster, field by field

Made by `cargo xtask crds` from the types in [crates/crd](../crates/crd), as [the definition](../crds/storageclusters.holdfast.dev.yaml) is; `kubectl explain storagecluster.spec` says the same. What happens when a field changes is in [kubernetes.md](kubernetes.md), a resource to begin with in [examples](../examples/storagecluster.yaml).
";

/// The two parts of the resource, and what is said before their tables.
const PARTS: [(&str, &str); 2] = [
    (
        "spec",
        "What is wanted. A field without a default that is not required may be left out.",
    ),
    ("status", "What is. Only the operator writes it."),
];

/// The reference, from the text of the definition.
///
/// # Errors
/// When the text is no definition with one version.
pub fn from_definition(text: &str) -> Result<String> {
    let definition: Value = serde_yaml_ng::from_str(text).context("the definition")?;
    let schema = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties")
        .context("the definition has no schema")?;
    let mut page = HEAD.to_owned();
    for (part, about) in PARTS {
        let fields = schema
            .get(part)
            .with_context(|| format!("the definition has no {part}"))?;
        write!(page, "\n## {part}\n{about}\n\n")?;
        page.push_str("| field | type | default | meaning |\n| --- | --- | --- | --- |\n");
        describe(&mut page, part, fields)?;
    }
    Ok(page)
}

/// A row for each field below `path`, in the order of the definition.
fn describe(page: &mut String, path: &str, schema: &Value) -> Result<()> {
    let Some(Value::Object(fields)) = schema.get("properties") else {
        return Ok(());
    };
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        let required = has(schema, "required", name);
        row(page, &path, field, required)?;
        match field.get("items") {
            Some(items) => describe(page, &format!("{path}[]"), items)?,
            None => describe(page, &path, field)?,
        }
    }
    Ok(())
}

fn has(schema: &Value, list: &str, name: &str) -> bool {
    let items = schema.get(list).and_then(Value::as_array);
    items.is_some_and(|items| items.iter().any(|item| item == name))
}

fn row(page: &mut String, path: &str, field: &Value, required: bool) -> Result<()> {
    let default = match field.get("default") {
        _ if required => "required".to_owned(),
        // Of an object, the rows of its fields say it.
        Some(Value::Object(_)) | None => String::new(),
        Some(value) => format!("`{}`", plain(value)),
    };
    let text = |key: &str| field.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut meaning = one_line(text("description"));
    for rule in rules(field) {
        write!(meaning, " Rule: {}.", one_line(rule))?;
    }
    writeln!(
        page,
        "| `{path}` | {} | {default} | {meaning} |",
        kind(field)
    )?;
    Ok(())
}

/// The messages of the rules of a field.
fn rules(field: &Value) -> impl Iterator<Item = &str> {
    let rules = field
        .get("x-kubernetes-validations")
        .and_then(Value::as_array);
    let messages = rules.into_iter().flatten();
    messages.filter_map(|rule| rule.get("message").and_then(Value::as_str))
}

/// Its type, with the values or numbers that it may have.
fn kind(field: &Value) -> String {
    if let Some(Value::Array(values)) = field.get("enum") {
        let values: Vec<_> = values.iter().map(plain).collect();
        return values.join(", ");
    }
    let name = field.get("type").and_then(Value::as_str).unwrap_or("any");
    let bound = |key: &str| field.get(key).and_then(Value::as_f64);
    match (name, bound("minimum"), bound("maximum")) {
        ("integer", Some(least), Some(most)) => format!("{least} to {most}"),
        ("array", ..) => {
            let items = field.get("items").map(kind).unwrap_or_default();
            format!("list of {items}")
        }
        (name, ..) => name.to_owned(),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Fit for the cell of a table.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = r"
spec:
  versions:
  - schema:
      openAPIV3Schema:
        properties:
          spec:
            required: [size]
            properties:
              size: {type: string, description: How large., x-kubernetes-validations: [{message: it shrinks}]}
              mode: {type: string, enum: [On, Off], default: Off, description: 'This |
                that.'}
              list: {type: array, items: {type: object, properties: {n: {type: integer, minimum: 1, maximum: 5}}}}
          status: {properties: {}}
";

    #[test]
    fn each_field_has_a_row_with_what_it_may_be() {
        let page = from_definition(DEFINITION).unwrap();
        for row in [
            "| `spec.size` | string | required | How large. Rule: it shrinks. |",
            "| `spec.mode` | On, Off | `Off` | This \\| that. |",
            "| `spec.list` | list of object |  |  |",
            "| `spec.list[].n` | 1 to 5 |  |  |",
        ] {
            assert!(page.contains(row), "{row} is not in\n{page}");
        }
        assert!(from_definition("spec: {}").is_err());
    }
}
