//! What a failed case leaves for whoever looks into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result};

use crate::room::{OPERATOR, OPERATOR_NAMESPACE, Room};

/// Everything that a case may have made, but Secrets.
const KINDS: &str = "storageclusters,statefulsets,deployments,pods,services,persistentvolumeclaims,\
    poddisruptionbudgets,networkpolicies,configmaps,serviceaccounts,ingresses,\
    horizontalpodautoscalers";
/// Lines of each log.
const TAIL: &str = "--tail=5000";

/// Writes error, resources, events and logs to a directory of their own.
pub fn collect(room: &Room, logs: &Path, error: &Error) -> Result<PathBuf> {
    let place = logs.join(&room.namespace);
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    fs::write(place.join("error.txt"), format!("{error:#}\n"))?;
    let here = room.namespace.as_str();
    let keep = |file: &str, namespace: &str, arguments: &[&str]| {
        let text = kubectl(namespace, arguments);
        fs::write(place.join(file), text)
    };
    keep("resources.yaml", here, &["get", KINDS, "--output", "yaml"])?;
    keep("pods.txt", here, &["describe", "pods"])?;
    let events = ["get", "events", "--sort-by", ".metadata.creationTimestamp"];
    keep("events.txt", here, &events)?;
    let pods = kubectl(here, &["get", "pods", "--output", "name"]);
    for pod in pods.lines().filter_map(|line| line.strip_prefix("pod/")) {
        let logs = ["logs", pod, "--all-containers", TAIL];
        keep(&format!("{pod}.log"), here, &logs)?;
        let before = kubectl(here, &[&logs[..], &["--previous"]].concat());
        if !before.contains("previous terminated container") {
            fs::write(place.join(format!("{pod}.before.log")), before)?;
        }
    }
    let operator = ["logs", "--selector", OPERATOR];
    let operator = [&operator[..], &["--prefix", TAIL]].concat();
    keep("operator.log", OPERATOR_NAMESPACE, &operator)?;
    Ok(place)
}

/// What kubectl prints, or why it does not.
fn kubectl(namespace: &str, arguments: &[&str]) -> String {
    let output = Command::new("kubectl")
        .args(["--namespace", namespace])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stdout);
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!("{printed}{complaint}")
        }
        Err(error) => format!("kubectl: {error}\n"),
    }
}
