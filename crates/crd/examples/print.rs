//! Prints the definition of StorageCluster for Kubernetes. The one in crds/ is made by
//! `cargo run -p holdfast-crd --example print > crds/storageclusters.holdfast.dev.yaml`,
//! and a test says when it is not what the types say.

use kube::CustomResourceExt;

fn main() -> Result<(), serde_yaml_ng::Error> {
    print!(
        "{}",
        serde_yaml_ng::to_string(&holdfast_crd::StorageCluster::crd())?
    );
    Ok(())
}
