use super::*;

#[test]
fn a_node_is_host_and_port_with_or_without_http() {
    for (given, read) in [
        ("storage-node1:8000", "storage-node1:8000"),
        (" http://storage-node1:8000/ ", "storage-node1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("https://h:1", "h:1"),
    ] {
        assert_eq!(parse_node_address(given), Ok(Address(read.into())));
    }
    for bad in [
        "",
        "host",
        ":8000",
        "host:",
        "host:0",
        "host:99999",
        "::1:8000",
        "http://h:1/path",
        "ftp://h:1",
        "u@h:1",
        "a b:1",
        "[x]:1",
    ] {
        let refused = parse_node_address(bad).unwrap_err();
        assert!(refused.contains("host:port"), "{bad:?}: {refused}");
    }
}

#[test]
fn sizes_are_powers_of_1024() {
    assert_eq!(parse_size("5G"), Ok(5 << 30));
    assert_eq!(parse_size(" 123 "), Ok(123));
    assert_eq!(parse_size("64MiB"), Ok(64 << 20));
    for bad in ["", "G", "-1", "1.5G", "5X", "5g", "99999999999T"] {
        assert!(parse_size(bad).is_err(), "{bad:?} was taken");
    }
    let named = size_setting("HOLDFAST_X", "5X").unwrap_err().0;
    assert!(named.starts_with("HOLDFAST_X"), "{named}");
}

#[test]
fn nodes_are_named_in_one_way() {
    let addresses = |nodes: &[&str], first: Option<&str>| {
        let args = ConnectArgs {
            nodes: nodes.iter().map(|&node| node.into()).collect(),
            node1_url: first.map(str::to_owned),
            ..ConnectArgs::default()
        };
        args.node_addresses()
    };
    // Compose gives empty variables where a setting is left out.
    assert_eq!(addresses(&["a:1", ""], Some("")).unwrap().len(), 1);
    assert_eq!(addresses(&[""], Some("http://a:1")).unwrap().len(), 1);
    for (refused, says) in [
        (addresses(&["a:1"], Some("b:1")), "set one of them"),
        (addresses(&[], None), "no storage node is named"),
        (addresses(&["nonsense"], None), "host:port"),
        (addresses(&["https://a:1"], None), "HOLDFAST_TLS_DIR"),
    ] {
        let told = refused.unwrap_err().0;
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn secrets_come_from_one_place_and_get_the_shared_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Secrets::ensure(dir.path(), None).unwrap();
    let found = FoundSecrets {
        cluster: None,
        rabbitmq_url: Some("amqp://mq".into()),
        redis_url: Some("redis://c".into()),
        shared: Some(shared.clone()),
        secrets_dir: Some(dir.path().to_owned()),
        followed: None,
    };
    assert_eq!(found.cluster_secret().unwrap(), shared.cluster);
    let rabbitmq = format!("amqp://holdfast:{}@mq", shared.rabbitmq_password);
    assert_eq!(*found.rabbitmq().unwrap().now(), rabbitmq);
    let redis = format!("redis://:{}@c", shared.redis_password);
    assert_eq!(*found.redis().unwrap().now(), redis);
    let both = FoundSecrets {
        cluster: Some(shared.cluster),
        ..found
    };
    assert!(
        both.cluster_secret()
            .unwrap_err()
            .0
            .contains("set one of them")
    );
    let none = FoundSecrets::default();
    for (refused, name) in [
        (none.cluster_secret(), "HOLDFAST_CLUSTER_SECRET"),
        (none.rabbitmq().map(|_| String::new()), "RABBITMQ_URL"),
        (none.redis().map(|_| String::new()), "REDIS_URL"),
        (checked_cluster_secret("tiny".into()), "at least 16"),
    ] {
        let told = refused.unwrap_err().0;
        assert!(told.contains(name) && !told.contains("tiny"), "{told}");
    }
}
