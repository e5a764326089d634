//! The definition of StorageCluster: made of the types in `crates/crd`, kept in
//! `crds/` for whoever applies it by hand, and in the chart; and its reference.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{cargo, reference, root};

/// Where it is kept, byte for byte alike.
const KEPT: [&str; 2] = [
    "crds/storageclusters.holdfast.dev.yaml",
    "charts/holdfast/files/storageclusters.holdfast.dev.yaml",
];

/// Writes the definition to where it is kept; with `check` says whether it is
/// there already.
pub fn run(check: bool) -> Result<()> {
    let printed = cargo()
        .args(["run", "--quiet", "--locked", "-p", "holdfast-crd"])
        .args(["--example", "print"])
        .output()
        .context("cannot run cargo")?;
    if !printed.status.success() {
        bail!(
            "the definition cannot be printed: {}",
            String::from_utf8_lossy(&printed.stderr)
        );
    }
    // One end of the last line, however many the printer gives.
    let text = format!("{}\n", String::from_utf8(printed.stdout)?.trim_end());
    let page = reference::from_definition(&text)?;
    let definitions = KEPT.iter().map(|place| (*place, &text));
    for (place, text) in definitions.chain([(reference::KEPT, &page)]) {
        let path = root().join(place);
        if check {
            let kept = fs::read_to_string(&path).unwrap_or_default();
            if kept != *text {
                bail!("{place} is not what the types say: run `cargo xtask crds`");
            }
            continue;
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {place}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That they are what the types say is tested beside the types.
    #[test]
    fn the_chart_and_the_reference_are_of_the_definition_that_is_kept() {
        let [kept, shipped] = KEPT.map(|place| fs::read(root().join(place)).unwrap());
        assert!(kept == shipped, "run `cargo xtask crds`");
        let page = reference::from_definition(&String::from_utf8(kept).unwrap()).unwrap();
        let kept = fs::read_to_string(root().join(reference::KEPT)).unwrap();
        assert!(kept == page, "run `cargo xtask crds`");
    }
}
