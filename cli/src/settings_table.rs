//! Checks that `docs/settings.md` lists what the programs take, and nothing else.

use std::collections::BTreeMap;

use clap::{Command, CommandFactory};

/// Read by every service without being a flag.
const BESIDE_EVERYWHERE: [&str; 3] = [
    "HOLDFAST_CLUSTER_SECRET",
    "HOLDFAST_CLUSTER_SECRET_PREVIOUS_FILE",
    "HOLDFAST_LOG",
];

const TABLE: &str = include_str!("../../docs/settings.md");

/// The variables of a section, with their defaults as written.
fn listed(section: &str) -> BTreeMap<String, String> {
    let start = TABLE
        .find(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("there is no section {section}"));
    let body = &TABLE[start + 4..];
    let body = body.split("\n## ").next().unwrap();
    let mut all = BTreeMap::new();
    for line in body.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for name in cells[1].split('`').skip(1).step_by(2) {
            all.insert(name.to_owned(), cells[2].trim_matches('`').to_owned());
        }
    }
    all
}

/// The variables of a command and what is below it, with their defaults.
fn taken(command: &Command) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    for argument in command.get_arguments() {
        if let Some(name) = argument.get_env() {
            let default = argument.get_default_values().first();
            let default = default.map(|value| value.to_string_lossy().into_owned());
            all.insert(name.to_string_lossy().into_owned(), default);
        }
    }
    for below in command.get_subcommands() {
        all.extend(taken(below));
    }
    all
}

/// `beside` is read by the program without being a flag: secrets, and how much
/// is logged.
fn check(section: &str, command: &Command, beside: &[&str]) {
    let (mut listed_all, taken) = (listed("All services"), taken(command));
    let own = listed(section);
    listed_all.extend(own.clone());
    for (name, default) in &taken {
        let written = listed_all
            .get(name)
            .unwrap_or_else(|| panic!("{section}: {name} is not listed"));
        if let Some(default) = default {
            assert_eq!(written, default, "{section}: the default of {name}");
        }
    }
    for name in own.keys() {
        let known = taken.contains_key(name) || beside.contains(&name.as_str());
        assert!(known, "{section}: {name} is listed, and nothing takes it");
    }
    for name in beside {
        assert!(
            listed_all.contains_key(*name),
            "{section}: {name} is not listed"
        );
    }
}

#[test]
fn every_setting_of_every_program_is_listed_with_its_default() {
    let everywhere = BESIDE_EVERYWHERE;
    let connected = ["RABBITMQ_URL", "REDIS_URL"];
    let with = |more: &[&'static str]| [&everywhere[..], more].concat();
    let node = holdfast_node::NodeSettings::command();
    check("Storage node", &node, &with(&["HOLDFAST_ADMIN_TOKEN"]));
    let gateway = holdfast_gateway::settings::Args::command();
    check("Gateway", &gateway, &with(&connected));
    let worker = holdfast_worker::settings::Args::command();
    check("Worker", &worker, &with(&connected));
    let command = crate::arguments::Arguments::command();
    let command_alone = ["HOLDFAST_SECRETS_DIR", "HOLDFAST_ADMIN_TOKEN"];
    check("The `holdfast` command", &command, &command_alone);
}

#[test]
fn what_all_services_have_is_taken_by_each() {
    let beside = BESIDE_EVERYWHERE;
    for command in [
        holdfast_node::NodeSettings::command(),
        holdfast_gateway::settings::Args::command(),
        holdfast_worker::settings::Args::command(),
    ] {
        let taken = taken(&command);
        for (name, default) in listed("All services") {
            let known = taken.contains_key(&name) || beside.contains(&name.as_str());
            assert!(known, "{}: {name} (default {default})", command.get_name());
        }
    }
}
