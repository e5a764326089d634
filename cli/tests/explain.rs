//! `holdfast explain plan` as a pipeline sees it: what comes out, and the exit code.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test drives a process of this machine, and a helper that fails ends it"
)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const RESOURCE: &str = include_str!("../../crates/plan/tests/resources/smallest.yaml");

fn explain(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["explain", "plan"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    command
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    command.wait_with_output().unwrap()
}

#[test]
fn objects_come_out_as_yaml_documents_or_one_a_line() {
    let yaml = explain(&["-", "--namespace", "files"], RESOURCE);
    assert_eq!(yaml.status.code(), Some(0));
    let yaml = String::from_utf8(yaml.stdout).unwrap();
    let documents = yaml.lines().filter(|line| *line == "---").count();
    assert!(yaml.contains("namespace: files"), "{yaml}");
    let json = explain(&["-", "--json"], RESOURCE);
    let json = String::from_utf8(json.stdout).unwrap();
    let kinds: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|object| object.get("kind").unwrap().to_string())
        .collect();
    assert_eq!(kinds.len(), documents);
    assert!(kinds.contains(&"\"StatefulSet\"".to_owned()), "{kinds:?}");
}

#[test]
fn a_contradiction_is_told_with_what_to_change_and_nothing_comes_out() {
    let wrong = explain(&["-"], &RESOURCE.replace("name: demo", "name: a.b"));
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stdout.is_empty());
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(told.contains("lower-case letters"), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let absent = explain(&["/nowhere/cluster.yaml"], "");
    assert_eq!(absent.status.code(), Some(1));
    let told = String::from_utf8(absent.stderr).unwrap();
    assert!(told.contains("/nowhere/cluster.yaml"), "{told}");
}
