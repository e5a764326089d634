//! Kinds of others, as far as an operator sees them: definitions that take
//! whatever is written.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use serde_json::json;

use crate::kubernetes::room::Room;
use crate::wait::until;

/// How long the API server may take to have a kind, or to have it no more.
const KNOWN: Duration = Duration::from_secs(60);

/// A kind of somebody else.
#[derive(Clone, Copy)]
pub struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
}

/// Prometheus' operator: where metrics are read.
pub const SERVICE_MONITOR: Kind = Kind {
    group: "monitoring.coreos.com",
    kind: "ServiceMonitor",
    plural: "servicemonitors",
};
/// Prometheus' operator: when somebody is called.
pub const PROMETHEUS_RULE: Kind = Kind {
    group: "monitoring.coreos.com",
    kind: "PrometheusRule",
    plural: "prometheusrules",
};
/// cert-manager: a certificate that is asked for.
pub const CERTIFICATE: Kind = Kind {
    group: "cert-manager.io",
    kind: "Certificate",
    plural: "certificates",
};

impl Kind {
    /// Its definition's name.
    fn definition(self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    fn resource(self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, "v1", self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }

    /// Objects of this kind in a namespace.
    pub fn of(self, room: &Room) -> Api<DynamicObject> {
        room.dynamic(&self.resource())
    }
}

/// Whether the cluster knows none of these kinds. Says so where it does: they are
/// somebody's, and would be taken away at the end of a case.
pub async fn are_free(room: &Room, kinds: &[Kind]) -> Result<bool> {
    let definitions = room.everywhere::<CustomResourceDefinition>();
    for kind in kinds {
        if definitions.get_opt(&kind.definition()).await?.is_some() {
            println!("      skipped: the cluster has {}", kind.definition());
            return Ok(false);
        }
    }
    Ok(true)
}

/// Has the cluster know kinds.
pub async fn install(room: &Room, kinds: &[Kind]) -> Result<()> {
    let definitions = room.everywhere::<CustomResourceDefinition>();
    for kind in kinds {
        let made = json!({
            "metadata": {"name": kind.definition()},
            "spec": {
                "group": kind.group,
                "scope": "Namespaced",
                "names": {
                    "kind": kind.kind,
                    "plural": kind.plural,
                    "singular": kind.kind.to_lowercase(),
                },
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": true,
                    }},
                }],
            },
        });
        let made = serde_json::from_value(made)?;
        definitions.create(&PostParams::default(), &made).await?;
    }
    Ok(())
}

/// Has the cluster know them no more, nor any object of them.
pub async fn remove(room: &Room, kinds: &[Kind]) -> Result<()> {
    let definitions = room.everywhere::<CustomResourceDefinition>();
    for kind in kinds {
        let name = kind.definition();
        if definitions.get_opt(&name).await?.is_some() {
            definitions.delete(&name, &DeleteParams::default()).await?;
        }
    }
    until("the kinds are gone", KNOWN, async || {
        for kind in kinds {
            let found = definitions.get_opt(&kind.definition()).await?;
            ensure!(found.is_none(), "{} is there", kind.definition());
        }
        Ok(())
    })
    .await
}
