//! Totals: whether objects have their copies is told as it was counted, and
//! what was not counted is named.

use std::collections::BTreeSet;

use holdfast_metadata::protocol::GroupCensus;
use holdfast_model::{Epoch, Timestamp};
use serde_json::{Value, json};

use crate::world::{ANNA, World, bearer, whole};

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: u64 = 1_767_225_600_000;

async fn stats(world: &World) -> Value {
    let auth = bearer(ANNA);
    let got = world.get("/api/stats", &[("authorization", &auth)]).await;
    assert_eq!(got.status, 200);
    got.json()
}

/// A group with a bit of everything, counted so many seconds into the year.
fn mixed(group: u16, seconds: u64) -> GroupCensus {
    GroupCensus {
        objects: 20,
        degraded: 5,
        unavailable: 3,
        lost: 1,
        missing: 7,
        silent_disks: u64::from(group),
        time: Timestamp(NEW_YEAR + seconds * 1_000),
        ..whole(group)
    }
}

#[tokio::test]
async fn what_the_nodes_have_counted_is_told_with_the_oldest_time() {
    let world = World::new().await;
    world.count(vec![mixed(1, 9), mixed(2, 5), mixed(3, 7)], 40);
    let stats = stats(&world).await;
    let redundancy = json!({
        "objects": 60,
        "chunks": 0,
        "degraded": 15,
        "unavailable": 9,
        "lost": 3,
        "missing_fragments": 21,
        "silent_disks": 3,
        "complete": true,
        "uncounted_groups": [],
        "as_of": "2026-01-01T00:00:05Z",
        "epoch": 1,
    });
    assert_eq!(stats["redundancy"], redundancy);
    // The queue is another thing, and says nothing of it.
    let repair = json!({"degraded_chunks": 0, "lost_chunks": 0, "chunks_to_copy": 40});
    assert_eq!(stats["repair"], repair);
    let group = &stats["groups"][1];
    assert_eq!(group["group"], 2);
    assert_eq!(group["totals"]["objects"], 0);
    let census = json!({
        "objects": 20,
        "degraded": 5,
        "unavailable": 3,
        "lost": 1,
        "missing_fragments": 7,
        "silent_disks": 2,
        "as_of": "2026-01-01T00:00:05Z",
        "epoch": 1,
    });
    assert_eq!(group["census"], census);
}

/// Whether a value has what a schema says it has, and nothing else.
fn fits(schema: &Value, value: &Value) {
    let types = schema["type"]
        .as_array()
        .map_or(vec![schema["type"].clone()], |types| types.clone());
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(types.contains(&json!(is)), "{schema} {value}");
    let Some(properties) = schema["properties"].as_object() else {
        let items = value.as_array().into_iter().flatten();
        return items.for_each(|item| fits(&schema["items"], item));
    };
    if let Some(fields) = value.as_object() {
        let names: BTreeSet<_> = fields.keys().collect();
        assert_eq!(names, properties.keys().collect::<BTreeSet<_>>());
        fields
            .iter()
            .for_each(|(name, field)| fits(&properties[name], field));
    }
}

#[tokio::test]
async fn it_is_what_the_description_says() {
    let world = World::new().await;
    let document = world.get("/api/openapi.json", &[]).await.json();
    let schema = &document["components"]["schemas"]["Stats"];
    world.count(vec![mixed(1, 9), mixed(2, 5)], 1);
    fits(schema, &stats(&world).await);
}

#[tokio::test]
async fn groups_that_nobody_has_counted_in_this_layout_are_named_and_not_guessed() {
    let world = World::new().await;
    let earlier = GroupCensus {
        epoch: Epoch(0),
        ..mixed(2, 1)
    };
    world.count(vec![mixed(1, 9), earlier], 0);
    let told = stats(&world).await;
    let redundancy = &told["redundancy"];
    assert_eq!(redundancy["complete"], false);
    assert_eq!(redundancy["uncounted_groups"], json!([2, 3]));
    assert_eq!(
        (&redundancy["objects"], &redundancy["lost"]),
        (&json!(20), &json!(1))
    );
    assert_eq!(redundancy["as_of"], "2026-01-01T00:00:09Z");
    assert_eq!(told["groups"][1]["census"]["epoch"], 0);
    assert_eq!(told["groups"][2]["census"], Value::Null);
    let world = World::new().await;
    world.count(Vec::new(), 0);
    let redundancy = &stats(&world).await["redundancy"];
    assert_eq!(redundancy["uncounted_groups"], json!([1, 2, 3]));
    assert_eq!(redundancy["as_of"], Value::Null);
}
