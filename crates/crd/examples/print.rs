//! Prints the definition.
use kube::CustomResourceExt;
fn main() {
    println!(
        "{}",
        serde_yaml_ng::to_string(&holdfast_crd::StorageCluster::crd()).unwrap()
    );
}
