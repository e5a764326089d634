//! Whole plans as text. `HOLDFAST_GOLDEN=write cargo test -p holdfast-plan` makes
//! them anew; what has changed is then read in the diff.

use std::path::Path;

use holdfast_plan::DesiredState;

use crate::support::{ENCRYPTED, EVERYTHING, EXTERNAL, SMALLEST, plan};

fn text(state: &DesiredState) -> String {
    let objects = state.children.iter().map(|child| &child.object);
    objects
        .map(|object| format!("---\n{}", serde_yaml_ng::to_string(object).unwrap()))
        .collect()
}

fn check(name: &str, yaml: &str) {
    let made = text(&plan(yaml));
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let place = place.join(format!("{name}.yaml"));
    if std::env::var("HOLDFAST_GOLDEN").is_ok_and(|order| order == "write") {
        std::fs::write(&place, &made).unwrap();
    }
    let golden = std::fs::read_to_string(&place).unwrap();
    for (number, (made, golden)) in made.lines().zip(golden.lines()).enumerate() {
        assert_eq!(made, golden, "{name}.yaml, line {}", number + 1);
    }
    assert_eq!(made.len(), golden.len(), "{name}.yaml ends elsewhere");
}

#[test]
fn the_smallest_resource_means_this() {
    check("smallest", SMALLEST);
}

#[test]
fn a_resource_with_everything_set_means_this() {
    check("everything", EVERYTHING);
}

#[test]
fn a_resource_with_tls_means_this() {
    check("encrypted", ENCRYPTED);
}

#[test]
fn a_resource_with_a_queue_and_a_cache_of_others_means_this() {
    check("external", EXTERNAL);
}
