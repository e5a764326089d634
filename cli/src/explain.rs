//! What a StorageCluster comes to: the operator's own plan, without a cluster.

use std::io::Read;
use std::path::Path;

use holdfast_crd::StorageCluster;
use holdfast_plan::{Decisions, DesiredState, desired, validate};
use serde::Deserialize;
use serde_json::Value;

use crate::arguments::ExplainPlan;
use crate::failure::Failure;
use crate::show::{Output, say};

/// The largest file that is read: an API server takes no resource beyond 1.5 MiB,
/// and some documents of other kinds may be beside it.
const MAX_BYTES: u64 = 16 << 20;
/// Stands for the identity that an API server would give the resource.
const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Prints the objects that the resources in a file mean.
pub fn plan(order: &ExplainPlan, output: Output) -> Result<(), Failure> {
    let text = read(&order.file)?;
    let states = explain(&text, &order.namespace).map_err(|sentences| Failure::Resource {
        path: order.file.clone(),
        sentences,
    })?;
    for child in states.iter().flat_map(|state| &state.children) {
        if output.json {
            output.value(&child.object);
        } else {
            let yaml = serde_yaml_ng::to_string(&child.object)
                .map_err(|error| Failure::Usage(error.to_string()))?;
            say!("---\n{}", yaml.trim_end());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
    };
    read.map_err(Failure::file(path))?;
    Ok(text)
}

/// The plan of each StorageCluster in `text`, or everything that must be changed.
fn explain(text: &str, namespace: &str) -> Result<Vec<DesiredState>, Vec<String>> {
    let mut states = Vec::new();
    let mut wrong = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let resource = Value::deserialize(document)
            .map_err(|error| vec![format!("it is neither YAML nor JSON: {error}")])?;
        if resource.get("kind").and_then(Value::as_str) != Some("StorageCluster") {
            continue;
        }
        match explain_one(&resource, namespace) {
            Ok(state) => states.push(state),
            Err(sentences) => wrong.extend(sentences),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    if states.is_empty() {
        return Err(vec!["there is no StorageCluster in it".into()]);
    }
    Ok(states)
}

fn explain_one(given: &Value, namespace: &str) -> Result<DesiredState, Vec<String>> {
    let mut resource: StorageCluster = serde_json::from_value(given.clone())
        .map_err(|error| vec![format!("it is no StorageCluster: {error}")])?;
    let mut wrong = Vec::new();
    if let Ok(understood) = serde_json::to_value(&resource) {
        let spec = |of: &Value| of.get("spec").cloned().unwrap_or_default();
        unknown("spec", &spec(given), &spec(&understood), &mut wrong);
    }
    if let Err(errors) = resource.validate_cel() {
        wrong.extend(errors.iter().map(|error| error.to_string()));
    }
    let metadata = &mut resource.metadata;
    metadata.namespace.get_or_insert_with(|| namespace.into());
    metadata.uid.get_or_insert_with(|| NO_UID.into());
    // As if it had been created under this release.
    let decisions = Decisions::at_rest(&resource.spec, env!("CARGO_PKG_VERSION").into());
    match validate(&resource, decisions) {
        Ok(cluster) if wrong.is_empty() => Ok(desired(&cluster)),
        Ok(_) => Err(wrong),
        Err(contradictions) => {
            wrong.extend(contradictions.iter().map(ToString::to_string));
            Err(wrong)
        }
    }
}

/// Notes fields that were given and not understood. What is null was not given.
fn unknown(path: &str, given: &Value, understood: &Value, wrong: &mut Vec<String>) {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            for (name, given) in given.iter().filter(|(_, given)| !given.is_null()) {
                let path = format!("{path}.{name}");
                match understood.get(name) {
                    Some(understood) => unknown(&path, given, understood, wrong),
                    None => wrong.push(format!(
                        "{path} is no field: take it out, or spell it otherwise"
                    )),
                }
            }
        }
        (Value::Array(given), Value::Array(understood)) => {
            for (index, (given, understood)) in given.iter().zip(understood).enumerate() {
                unknown(&format!("{path}[{index}]"), given, understood, wrong);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = "
kind: StorageCluster
apiVersion: holdfast.dev/v1alpha1
metadata: {name: demo}
spec:
  nodes: {storage: {size: 100Gi}}
  tls: {mode: Disabled}
";

    fn refused(text: &str) -> Vec<String> {
        explain(text, "files").unwrap_err()
    }

    #[test]
    fn a_resource_is_explained_in_its_namespace_or_the_given_one() {
        let [state] = explain(SMALLEST, "files").unwrap().try_into().unwrap();
        assert!(state.children.len() > 10);
        for child in &state.children {
            assert_eq!(child.object["metadata"]["namespace"], "files");
        }
        let own = SMALLEST.replace("name: demo", "name: demo, namespace: own");
        let states = explain(&own, "files").unwrap();
        assert_eq!(states[0].children[0].object["metadata"]["namespace"], "own");
        let set = states[0]
            .children
            .iter()
            .find(|child| child.name == "demo-node")
            .unwrap();
        assert_eq!(
            set.object["metadata"]["labels"]["app.kubernetes.io/instance"],
            "demo"
        );
    }

    #[test]
    fn documents_of_other_kinds_are_passed_over() {
        let text = format!("kind: Namespace\nmetadata: {{name: x}}\n---{SMALLEST}---{SMALLEST}");
        assert_eq!(explain(&text, "files").unwrap().len(), 2);
        assert_eq!(
            refused("kind: Namespace"),
            ["there is no StorageCluster in it"]
        );
    }

    #[test]
    fn rules_of_the_definition_and_of_the_operator_are_told_together() {
        let text = SMALLEST.replace("name: demo", "name: a.b") + "  redundancy: {copies: 5}\n";
        let wrong = refused(&text).join("\n");
        assert!(
            wrong.contains("at least as many nodes as copies"),
            "{wrong}"
        );
        assert!(wrong.contains("lower-case letters"), "{wrong}");
    }

    #[test]
    fn a_misspelled_field_is_found_wherever_it_is() {
        let text =
            format!("{SMALLEST}  gateway: {{replcas: 3, service: {{typo: null, tpye: x}}}}\n");
        let wrong = refused(&text);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(
            wrong
                .iter()
                .any(|sentence| sentence.starts_with("spec.gateway.replcas is no field"))
        );
        assert!(
            wrong
                .iter()
                .any(|sentence| sentence.starts_with("spec.gateway.service.tpye is"))
        );
    }

    #[test]
    fn what_is_no_resource_is_said_to_be_none() {
        assert!(refused("{").join("").contains("neither YAML nor JSON"));
        assert!(
            refused("kind: StorageCluster\nspec: 3")
                .join("")
                .contains("no StorageCluster")
        );
        let bad = SMALLEST.replace("100Gi", "[1]");
        assert!(refused(&bad).join("").contains("it is no StorageCluster"));
    }
}
