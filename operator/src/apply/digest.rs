//! What an object was made of, noted on it.
//!
//! A field that is no longer desired is one that the live object merely has more
//! of, as it has defaults. So the digest of all that is desired goes with each
//! object: another one is applied, and server-side apply takes away what was ours
//! and is not any more.

use holdfast_plan::names;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Digits of a digest.
const DIGITS: usize = 16;

/// Notes on a desired object what it is made of.
pub(super) fn note(object: &mut Value) {
    let hash = Sha256::digest(object.to_string());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let noted = Value::String(digits.chars().take(DIGITS).collect());
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let annotations = metadata
        .entry("annotations")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(names::APPLIED.into(), noted);
    }
}

/// Whether a live object was made of just that.
pub(super) fn is_same(desired: &Value, live: &Value) -> bool {
    let noted = |object: &Value| {
        let annotations = object.pointer("/metadata/annotations")?;
        annotations.get(names::APPLIED).cloned()
    };
    noted(desired) == noted(live)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn noted(mut object: Value) -> Value {
        note(&mut object);
        object
    }

    #[test]
    fn what_is_no_longer_desired_makes_another_object() {
        let more = || json!({"metadata": {"name": "x"}, "spec": {"a": 1, "hostNetwork": true}});
        let less = json!({"metadata": {"name": "x"}, "spec": {"a": 1}});
        assert!(is_same(&noted(more()), &noted(more())));
        assert!(!is_same(&noted(less), &noted(more())));
        // One of before there were notes.
        assert!(!is_same(&noted(more()), &more()));
    }

    #[test]
    fn other_annotations_stay() {
        let object = noted(json!({"metadata": {"annotations": {"a": "b"}}}));
        let annotations = object.pointer("/metadata/annotations").unwrap();
        assert_eq!(annotations.get("a"), Some(&json!("b")));
        assert!(annotations.get(names::APPLIED).is_some());
    }
}
