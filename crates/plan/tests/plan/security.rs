//! The Pod Security level `restricted`, and what Holdfast asks beyond it.
//!
//! As <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
//! has it, for what pods of ours can have.

use serde_json::{Value, json};

use crate::support::{ENCRYPTED, EVERYTHING, EXTERNAL, SMALLEST, plan, pod_templates};

/// Volumes that `restricted` allows.
const VOLUMES: [&str; 7] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
];

/// What a pod has that `restricted` forbids.
fn beyond_restricted(pod: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[field] == true {
            wrong.push(field.to_owned());
        }
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().unwrap().keys();
        wrong.extend(
            kinds
                .filter(|kind| *kind != "name" && !VOLUMES.contains(&kind.as_str()))
                .map(|kind| format!("volume of {kind}")),
        );
    }
    let context = &pod["securityContext"];
    for container in containers(pod) {
        let own = &container["securityContext"];
        let inherited = |field: &str| match &own[field] {
            Value::Null => &context[field],
            value => value,
        };
        let name = &container["name"];
        let mut must = |good: bool, what: &str| {
            if !good {
                wrong.push(format!("{name}: {what}"));
            }
        };
        must(own["privileged"] != true, "privileged");
        must(own["allowPrivilegeEscalation"] == false, "escalation");
        must(
            own["capabilities"]["drop"] == json!(["ALL"]),
            "capabilities",
        );
        let added = own["capabilities"]["add"].as_array();
        must(added.is_none_or(Vec::is_empty), "added capabilities");
        must(*inherited("runAsNonRoot") == true, "root");
        must(*inherited("runAsUser") != 0, "user 0");
        let profile = &inherited("seccompProfile")["type"];
        must(
            profile == "RuntimeDefault" || profile == "Localhost",
            "seccomp",
        );
        for port in container["ports"].as_array().into_iter().flatten() {
            must(port["hostPort"].is_null(), "a port of the host");
        }
    }
    wrong
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| pod[list].as_array().into_iter().flatten())
}

#[test]
fn every_pod_fits_the_level_restricted() {
    for yaml in [SMALLEST, ENCRYPTED, EVERYTHING, EXTERNAL] {
        let state = plan(yaml);
        let templates = pod_templates(&state);
        assert!(templates.len() >= 3);
        for (name, template) in templates {
            let wrong = beyond_restricted(&template["spec"]);
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
        }
    }
}

#[test]
fn the_check_sees_each_thing_that_restricted_forbids() {
    let state = plan(SMALLEST);
    let (_, template) = pod_templates(&state)[0];
    let breaks = [
        ("/hostNetwork", json!(true)),
        (
            "/volumes/0",
            json!({"name": "x", "hostPath": {"path": "/"}}),
        ),
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/runAsUser", json!(0)),
        (
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
        ),
        ("/containers/0/securityContext", json!({})),
        ("/containers/0/securityContext/privileged", json!(true)),
        (
            "/containers/0/securityContext/capabilities",
            json!({"drop": ["ALL"], "add": ["CHOWN"]}),
        ),
        ("/containers/0/ports/0/hostPort", json!(80)),
    ];
    for (path, value) in breaks {
        let mut pod = template["spec"].clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = pod.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
            parent => parent[field] = value,
        }
        assert!(!beyond_restricted(&pod).is_empty(), "{path}");
    }
}

#[test]
fn our_containers_write_nowhere_but_to_volumes_and_have_bounded_memory() {
    for yaml in [SMALLEST, ENCRYPTED, EXTERNAL] {
        let state = plan(yaml);
        for (name, template) in pod_templates(&state) {
            let pod = &template["spec"];
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            for container in containers(pod) {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                let resources = &container["resources"];
                assert!(resources["limits"]["memory"].is_string(), "{name}");
                assert!(resources["requests"]["memory"].is_string(), "{name}");
                assert!(resources["requests"]["cpu"].is_string(), "{name}");
            }
        }
    }
}

#[test]
fn no_object_holds_a_secret_and_pods_get_only_those_they_need() {
    for (yaml, own) in [(SMALLEST, &[][..]), (ENCRYPTED, &OWN_TLS[..])] {
        let state = plan(yaml);
        let kinds = state.children.iter().map(|child| &child.object["kind"]);
        assert!(kinds.into_iter().all(|kind| kind != "Secret"));
        let keys = |name: &str| {
            let templates = pod_templates(&state);
            let (_, template) = templates.iter().find(|(found, _)| *found == name).unwrap();
            let mut keys: Vec<String> = Vec::new();
            for volume in template["spec"]["volumes"].as_array().unwrap() {
                for source in volume["projected"]["sources"]
                    .as_array()
                    .into_iter()
                    .flatten()
                {
                    for item in source["secret"]["items"].as_array().unwrap() {
                        assert_eq!(item["mode"], 0o440);
                        keys.push(item["path"].as_str().unwrap().into());
                    }
                }
            }
            keys.sort();
            keys
        };
        let with = |more: &[&str]| -> Vec<String> {
            let mut all: Vec<String> = more.iter().chain(own).map(|one| (*one).into()).collect();
            all.sort();
            all
        };
        let ours = [
            "cluster/admin-token",
            "cluster/cluster-secret",
            "cluster/cluster-secret-previous",
            "cluster/rabbitmq-password",
            "cluster/rabbitmq-user",
            "cluster/redis-password",
        ];
        for name in ["demo-node", "demo-gateway", "demo-worker"] {
            assert_eq!(keys(name), with(&ours), "{name}");
        }
        let cache = ["cluster/redis-password", "cluster/redis-password-previous"];
        assert_eq!(keys("demo-redis"), with(&cache));
        let broker = [
            "cluster/erlang-cookie",
            "cluster/rabbitmq-password",
            "cluster/rabbitmq-user",
        ];
        assert_eq!(keys("demo-rabbitmq"), with(&broker));
    }
}

/// What a pod has of certificates: its own, and the authorities.
const OWN_TLS: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

#[test]
fn certificates_are_mounted_as_directories_of_the_parts_own_secret() {
    let state = plan(ENCRYPTED);
    for (name, template) in pod_templates(&state) {
        let pod = &template["spec"];
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|one| one["name"] == "tls").unwrap();
        let secrets: Vec<_> = volume["projected"]["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|source| source["secret"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(secrets, [&format!("{name}-tls"), "demo-ca"], "{name}");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|one| one["name"] == "tls").unwrap();
        assert_eq!(mount["mountPath"], "/tls");
        assert!(mount.get("subPath").is_none(), "{name}");
    }
    for (_, template) in pod_templates(&plan(SMALLEST)) {
        let text = template.to_string();
        assert!(
            !text.contains("/tls") && !text.contains("demo-ca"),
            "{text}"
        );
    }
}
