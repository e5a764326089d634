//! An alert is of use when its metrics exist and its page is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_plan::ChildKind;
use serde_json::Value;

use crate::support::{SMALLEST, find, plan};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rules() -> Vec<Value> {
    let state = plan(SMALLEST);
    let rule = find(&state, ChildKind::PrometheusRule, "demo");
    rule["spec"]["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .clone()
}

fn sources(place: &Path, all: &mut String) {
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The expressions of the panels.
fn panels() -> Vec<String> {
    let state = plan(SMALLEST);
    let map = find(&state, ChildKind::ConfigMap, "demo-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = map["data"]["holdfast-files-demo.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .map(|panel| panel["targets"][0]["expr"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn alerts_and_panels_read_metrics_that_our_processes_show() {
    let mut code = String::new();
    for place in [
        "crates/controller/src",
        "crates/runtime/src",
        "services/node/src",
        "services/gateway/src",
    ] {
        sources(&root().join(place), &mut code);
    }
    let alerts = rules()
        .into_iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let expressions: Vec<String> = alerts.chain(panels()).collect();
    assert!(expressions.len() > 10);
    for expression in &expressions {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = expression.split(|letter| !is_name(letter));
        let metrics: BTreeSet<&str> = words.filter(|word| word.starts_with("holdfast_")).collect();
        assert!(!metrics.is_empty(), "{expression}");
        for metric in metrics {
            assert!(
                code.contains(&format!("\"{metric}\"")),
                "nothing shows {metric}"
            );
        }
        assert!(!expression.contains("SELECTOR"), "{expression}");
        let own = "namespace=\"files\", service=\"demo-metrics\"";
        assert!(expression.contains(own), "{expression}");
    }
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let pages = root().join("docs/runbooks");
    let mut named = BTreeSet::new();
    for rule in rules() {
        let url = rule["annotations"]["runbook_url"]
            .as_str()
            .unwrap()
            .to_owned();
        let page = url.rsplit('/').next().unwrap().to_owned();
        let text = fs::read_to_string(pages.join(&page)).unwrap();
        let alert = format!("`{}`", rule["alert"].as_str().unwrap());
        assert!(text.contains(&alert), "{page} does not name {alert}");
        named.insert(page);
    }
    let there: BTreeSet<String> = fs::read_dir(pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, named);
}
