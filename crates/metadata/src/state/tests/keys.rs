//! Listings by object key, against a plain sort of the keys.

use std::collections::BTreeSet;

use super::*;
use crate::query::{KeyCursor, KeyEntry, KeyPage, ListKeys};

fn ask(
    bench: &Bench,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<KeyCursor>,
    limit: u32,
) -> KeyPage {
    let asked = ListKeys {
        bucket: BUCKET,
        prefix: prefix.to_owned(),
        delimiter: delimiter.map(str::to_owned),
        after,
        limit,
        versions: false,
    };
    match bench.ask(&Query::Keys(asked)) {
        Answer::Keys(page) => page,
        other => panic!("{other:?}"),
    }
}

fn shown(entry: &KeyEntry) -> String {
    match entry {
        KeyEntry::Object(object) => object.key.to_string(),
        KeyEntry::Prefix(prefix) => format!("{prefix}..."),
    }
}

/// All entries, page by page.
fn all(bench: &Bench, prefix: &str, delimiter: Option<&str>, limit: u32) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = ask(bench, prefix, delimiter, after, limit);
        assert!(page.entries.len() <= limit as usize);
        found.extend(page.entries.iter().map(shown));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

const KEYS: [&str; 13] = [
    "a",
    "a!",
    "a/",
    "a/b",
    "a/b/c",
    "a/b/d",
    "a0",
    "b/x",
    "b/y/z",
    "c",
    "cc/\u{e9}",
    "cc/\u{10ffff}",
    "d/e",
];

fn filled() -> Bench {
    let mut bench = Bench::new();
    for (number, key) in KEYS.iter().rev().enumerate() {
        bench.run(commit(put(key, number as u64 + 1)));
    }
    bench
}

#[test]
fn keys_come_in_the_order_of_their_bytes_whatever_the_pages() {
    let bench = filled();
    for prefix in ["", "a", "a/", "a/b", "b/", "cc", "x"] {
        for delimiter in [None, Some("/"), Some("b/")] {
            let mut expected: Vec<String> = Vec::new();
            let sorted: BTreeSet<&str> = KEYS.into_iter().collect();
            for key in sorted {
                let Some(rest) = key.strip_prefix(prefix) else {
                    continue;
                };
                let common = delimiter.and_then(|d| Some(rest.split_once(d)?.0.to_owned() + d));
                let entry = common.map_or(key.to_owned(), |c| format!("{prefix}{c}..."));
                if expected.last() != Some(&entry) {
                    expected.push(entry);
                }
            }
            for limit in [1, 2, 3, 1_000] {
                let found = all(&bench, prefix, delimiter, limit);
                assert_eq!(found, expected, "{prefix:?} {delimiter:?} {limit}");
            }
        }
    }
}

#[test]
fn a_page_begins_after_a_key_that_need_not_be() {
    let bench = filled();
    let after = Some(KeyCursor::Key("a/b/cc".to_owned()));
    let page = ask(&bench, "", None, after, 2);
    let names: Vec<String> = page.entries.iter().map(shown).collect();
    assert_eq!(names, ["a/b/d", "a0"]);
    let before = Some(KeyCursor::Key("a".to_owned()));
    let page = ask(&bench, "b/", Some("/"), before, 9);
    let names: Vec<String> = page.entries.iter().map(shown).collect();
    assert_eq!(names, ["b/x", "b/y/..."]);
}

#[test]
fn what_has_ended_is_not_listed_and_a_prefix_of_it_alone_neither() {
    let mut bench = filled();
    bench.delete("b/x", DeleteCause::Wish);
    let mut short = put("b/y/z", 99);
    short.lifetime_millis = Some(1_000);
    bench.run(commit(short));
    let listed = |bench: &Bench| all(bench, "b", Some("/"), 1);
    assert_eq!(listed(&bench), ["b/..."]);
    bench.wait(1_000);
    assert_eq!(listed(&bench), Vec::<String>::new());
}

#[test]
fn a_page_that_has_looked_at_enough_says_how_far_it_came() {
    let mut bench = Bench::new();
    let mut requests = Vec::new();
    for number in 0..10_050 {
        let mut short = put(&format!("x{number:05}"), number + 1);
        short.lifetime_millis = Some(1_000);
        requests.push(bench.request(commit(short)));
    }
    // One entry, so that the rows are checked once.
    bench.send_all(requests);
    bench.run(commit(put("y", 20_000)));
    bench.wait(1_000);
    let page = ask(&bench, "", None, None, 10);
    assert_eq!(page.entries, []);
    assert_eq!(page.next, Some(KeyCursor::Key("x09999".to_owned())));
    assert_eq!(all(&bench, "", None, 10), ["y"]);
}
