//! Encryption on the way.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encryption between the parts and towards clients. It is turned on or off while
/// the cluster sleeps; where certificates come from can change at any time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Default, Debug)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'CertManager' ? has(self.issuerRef) : !has(self.issuerRef)")
    .message("issuerRef is given with mode CertManager, and only then"))]
pub struct Tls {
    /// Where certificates come from. Off must be written.
    #[serde(default)]
    pub mode: TlsMode,
    /// The issuer, with mode CertManager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
}

/// Where certificates come from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TlsMode {
    /// From an authority that the operator makes for this cluster.
    #[default]
    Managed,
    /// From an issuer of cert-manager.
    CertManager,
    /// Nothing is encrypted.
    Disabled,
}

/// An issuer of cert-manager.
#[derive(KubeSchema, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its kind.
    #[serde(default)]
    pub kind: IssuerKind,
}

/// Kinds of issuers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum IssuerKind {
    /// Of the same namespace.
    #[default]
    Issuer,
    /// Of the whole cluster.
    ClusterIssuer,
}
