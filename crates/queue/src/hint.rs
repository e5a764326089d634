//! A hint as a message: JSON, so that people can read it in the broker's page.
//!
//! `{"v":1,"group":3,"task":"<32 digits>","kind":"thumbnail"}`. A reader
//! refuses a version it does not know; new fields are optional.

use crate::TaskHint;

/// The version that is written.
const VERSION: u32 = 1;
/// The longest message that is read: many times what is written.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

#[derive(serde::Serialize, serde::Deserialize)]
struct Message {
    v: u32,
    #[serde(flatten)]
    hint: TaskHint,
}

/// Writes a hint.
pub(crate) fn encode(hint: TaskHint) -> Vec<u8> {
    // A struct of numbers and strings cannot fail to be written.
    serde_json::to_vec(&Message { v: VERSION, hint }).unwrap_or_default()
}

/// Reads a hint; `None` when it is none.
pub(crate) fn decode(message: &[u8]) -> Option<TaskHint> {
    if message.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let message: Message = serde_json::from_slice(message).ok()?;
    (message.v == VERSION).then_some(message.hint)
}

#[cfg(test)]
mod tests {
    use holdfast_model::{GroupId, TaskId, TaskKind};

    use super::*;

    #[test]
    fn a_hint_is_read_back_from_its_message_which_keeps_its_form() {
        let hint = TaskHint {
            group: GroupId(3),
            task: TaskId::from_bytes([0xab; 16]),
            kind: TaskKind::Thumbnail,
        };
        let written = encode(hint);
        let golden =
            r#"{"v":1,"group":3,"task":"abababababababababababababababab","kind":"thumbnail"}"#;
        assert_eq!(String::from_utf8(written.clone()).unwrap(), golden);
        assert_eq!(decode(&written), Some(hint));
    }

    #[test]
    fn what_is_no_hint_is_refused() {
        let other_version =
            r#"{"v":2,"group":3,"task":"abababababababababababababababab","kind":"thumbnail"}"#;
        let other_kind =
            r#"{"v":1,"group":3,"task":"abababababababababababababababab","kind":"mine"}"#;
        for bad in [other_version, other_kind, "", "{}", "null", "\u{0}"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad:?} was taken");
        }
    }
}
