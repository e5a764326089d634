//! What may be added to pods.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A pod template that is merged over the operator's own, as `kubectl patch` does.
///
/// It may add labels, annotations, containers, tolerations and much else; it may
/// not touch our containers' commands, ports, probes and volumes, which becomes a
/// condition. Who may write it has the rights of who may create pods.
#[derive(Serialize, Deserialize, Clone, PartialEq, Default, Debug)]
#[serde(transparent)]
pub struct PodTemplate(pub Map<String, Value>);

impl JsonSchema for PodTemplate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PodTemplate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A pod template that is merged over the operator's own. It may not \
                touch our containers' commands, ports, probes and volumes.",
            "x-kubernetes-preserve-unknown-fields": true
        })
    }
}
