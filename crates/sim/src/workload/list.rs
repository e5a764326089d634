//! Listings: of one group, and merged over all of them as gateways do it. Each
//! page must show what was acknowledged before it began, must not show what was
//! gone by then, and must be whole.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_client::ClusterError;
use holdfast_client::cluster::{ListNewest, NewestPage};
use holdfast_metadata::query::{
    Answer, KeyCursor, KeyEntry, KeyPage, ListKeys, ListPosition, Query,
};
use holdfast_model::{ObjectKey, ObjectRecord, Timestamp};

use super::{Client, DEADLINE, LIMITED_KEYS, SHARED_KEYS, key, said};
use crate::history::Action;
use crate::journal::Work;

/// Pages after which a list must have ended: it moves on with each, and there
/// are fewer keys than this.
const MAX_PAGES: u32 = 100;
/// More entries than there are keys.
const ALL: u32 = 1_000;
/// What the keys of a kind have between it and their number.
const DELIMITER: &str = "-";

/// Every key that clients put.
fn all_keys() -> Vec<ObjectKey> {
    let shared = (0..SHARED_KEYS).filter_map(|n| key("shared", n));
    let limited = (0..LIMITED_KEYS).filter_map(|n| key("limited", n));
    shared.chain(limited).collect()
}

/// A place in a list of the newest: later ones are older.
type Place<'p> = (std::cmp::Reverse<Timestamp>, &'p ObjectKey);

fn place(position: &ListPosition) -> Place<'_> {
    (std::cmp::Reverse(position.created), &position.key)
}

fn place_of(record: &ObjectRecord) -> Place<'_> {
    (std::cmp::Reverse(record.created), &record.key)
}

impl Client {
    /// Lists in one of three ways.
    pub(super) async fn list(&self) {
        match self.below(3) {
            0 => self.list_group().await,
            1 => self.list_by_time().await,
            _ => self.list_by_key().await,
        }
    }

    /// Entries of a page: all, or so few that several pages are needed.
    fn draw_limit(&self) -> u32 {
        match self.below(3) {
            0 => ALL,
            _ => 1 + self.below(8) as u32,
        }
    }

    async fn pause_between_pages(&self) {
        if self.below(4) == 0 {
            let pause = Duration::from_millis(self.below(400));
            self.cluster.env().clock.sleep(pause).await;
        }
    }

    fn listed<T>(&self, what: &str, begun: Duration, answer: &Result<T, ClusterError>) {
        self.journal.did(begun, Work::List, answer.as_ref().err());
        self.journal.count(|counts| match answer {
            Ok(_) => counts.listings += 1,
            Err(_) => counts.failed += 1,
        });
        self.tell(&format!("list {what}: {}", said(answer)));
    }

    /// Lists one group: each key of it is seen or not.
    async fn list_group(&self) {
        let keys = all_keys();
        let Some(any) = keys.get(self.below(keys.len() as u64) as usize) else {
            return;
        };
        let Ok(group) = self.cluster.group_of(self.bucket, any) else {
            return;
        };
        let query = Query::List {
            bucket: self.bucket,
            owner: None,
            after: None,
            limit: ALL,
        };
        let begun = self.journal.trace().at();
        let called = self.journal.tick();
        let answer = self.cluster.query(group, query, DEADLINE, None).await;
        self.listed(&format!("group {group}"), begun, &answer);
        let Ok(Answer::Listing { records, more, .. }) = answer else {
            return;
        };
        if more {
            self.wrong("a short listing claims to have more".into());
        }
        for key in keys {
            if self.cluster.group_of(self.bucket, &key).ok() != Some(group) {
                continue;
            }
            match records.iter().find(|record| record.key == key) {
                Some(record) => self.shown(record, called),
                None => self.note(&key, called, true, Action::Listed(None)),
            }
        }
    }

    /// Notes an object that a list has shown with its record.
    fn shown(&self, record: &ObjectRecord, called: u64) {
        let key = &record.key;
        match self.journal.held(record) {
            Some(held) if held.left == Some(0) => {
                self.wrong(format!("{} is used up and listed", key.as_str()));
            }
            Some(held) => self.note(key, called, true, Action::Read(Some(held))),
            None => self.wrong(format!("{} is listed, nobody wrote it", key.as_str())),
        }
    }

    /// Lists all groups, newest first, page by page.
    async fn list_by_time(&self) {
        let limit = self.draw_limit();
        let mut after: Option<ListPosition> = None;
        for page in 0..MAX_PAGES {
            let asked = ListNewest {
                bucket: self.bucket,
                owner: None,
                after: after.clone(),
                limit,
            };
            let begun = self.journal.trace().at();
            let called = self.journal.tick();
            let answer = self.cluster.list_newest(&asked, DEADLINE, None).await;
            self.listed(&format!("newest, {limit}, page {page}"), begun, &answer);
            let Ok(answer) = answer else { return };
            if let Err(why) = check_newest(&asked, &answer) {
                return self.wrong(format!("a page of the newest {why}: {answer:?}"));
            }
            self.note_newest(&asked, &answer, called);
            after = answer.next;
            if after.is_none() {
                return;
            }
            self.pause_between_pages().await;
        }
        self.wrong("a list of the newest does not end".into());
    }

    fn note_newest(&self, asked: &ListNewest, page: &NewestPage, called: u64) {
        for key in all_keys() {
            if let Some(record) = page.records.iter().find(|record| record.key == key) {
                self.shown(record, called);
                continue;
            }
            if asked.after.is_none() && page.next.is_none() {
                self.note(&key, called, true, Action::Listed(None));
                continue;
            }
            // It is before the page, or after it, or nowhere.
            let on_page = self.journal.created(&key, |created| {
                let at = (std::cmp::Reverse(created), &key);
                let begun = asked.after.as_ref().is_none_or(|after| place(after) < at);
                begun && page.next.as_ref().is_none_or(|next| at <= place(next))
            });
            if !on_page.is_empty() {
                self.note(&key, called, true, Action::NoneOf(on_page));
            }
        }
    }

    /// Lists all groups by key, page by page, or what kinds of keys there are.
    async fn list_by_key(&self) {
        let kinds = self.below(4) == 0;
        let (prefix, limit) = match kinds {
            true => ("", ALL),
            false => {
                let prefixes = ["", "shared-", "limited-1", "shared-1"];
                let chosen = self.below(prefixes.len() as u64) as usize;
                (
                    prefixes.get(chosen).copied().unwrap_or(""),
                    self.draw_limit(),
                )
            }
        };
        let mut asked = ListKeys {
            bucket: self.bucket,
            prefix: prefix.to_owned(),
            delimiter: kinds.then(|| DELIMITER.to_owned()),
            after: None,
            limit,
            versions: false,
        };
        for page in 0..MAX_PAGES {
            let begun = self.journal.trace().at();
            let called = self.journal.tick();
            let answer = self.cluster.list_keys(asked.clone(), DEADLINE).await;
            let what = format!("keys {prefix:?}, {limit}, page {page}");
            self.listed(&what, begun, &answer);
            let Ok(answer) = answer else { return };
            if let Err(why) = check_keys(&asked, &answer) {
                return self.wrong(format!("a page of keys {why}: {answer:?}"));
            }
            match kinds {
                true => self.note_kinds(&answer, called),
                false => self.note_keys(&asked, &answer, called),
            }
            if answer.next.is_none() {
                return;
            }
            asked.after = answer.next;
            self.pause_between_pages().await;
        }
        self.wrong("a list of keys does not end".into());
    }

    fn note_keys(&self, asked: &ListKeys, page: &KeyPage, called: u64) {
        let mut shown = BTreeMap::new();
        for entry in &page.entries {
            let KeyEntry::Object(object) = entry else {
                return self.wrong(format!("a common prefix that nobody asked for: {entry:?}"));
            };
            let Some(written) = self.journal.written(&object.version) else {
                return self.wrong(format!("{:?} is listed, nobody wrote it", object.key));
            };
            shown.insert(object.key.clone(), written.value);
        }
        for key in all_keys() {
            let name = key.as_str();
            let on_page = name.starts_with(&asked.prefix)
                && asked.after.as_ref().is_none_or(|after| after.name() < name)
                && page.next.as_ref().is_none_or(|next| name <= next.name());
            let value = shown.remove(&key);
            if on_page {
                self.note(&key, called, true, Action::Listed(value));
            } else if value.is_some() {
                self.wrong(format!(
                    "{name} is on a page of keys where it is not asked for"
                ));
            }
        }
        if let Some((key, _)) = shown.first_key_value() {
            self.wrong(format!("{key:?} is listed, nobody puts it"));
        }
    }

    /// A kind that is not shown has no key.
    fn note_kinds(&self, page: &KeyPage, called: u64) {
        if page.next.is_some() {
            self.wrong(format!(
                "a list of so few prefixes has more pages: {page:?}"
            ));
        }
        for key in all_keys() {
            let shown = page.entries.iter().any(|entry| match entry {
                KeyEntry::Prefix(prefix) => key.as_str().starts_with(prefix),
                KeyEntry::Object(_) => false,
            });
            if !shown {
                self.note(&key, called, true, Action::Listed(None));
            }
        }
    }
}

/// Whether a page of the newest is in order, within what was asked, and whole.
fn check_newest(asked: &ListNewest, page: &NewestPage) -> Result<(), &'static str> {
    let places: Vec<Place<'_>> = page.records.iter().map(place_of).collect();
    if !places.is_sorted_by(|a, b| a < b) {
        return Err("is not in order");
    }
    let after = asked.after.as_ref().map(place);
    if after.is_some_and(|after| places.first().is_some_and(|first| *first <= after)) {
        return Err("begins before its place");
    }
    match &page.next {
        _ if places.len() > asked.limit as usize => Err("has too many"),
        Some(next) if places.last() != Some(&place(next)) => Err("goes on elsewhere"),
        // Nothing expires in a run, so nothing is left out.
        Some(_) if places.len() < asked.limit as usize => Err("is not full and not the last"),
        _ => Ok(()),
    }
}

/// The same of a page of keys.
fn check_keys(asked: &ListKeys, page: &KeyPage) -> Result<(), &'static str> {
    let places: Vec<KeyCursor> = page.entries.iter().map(|e| e.cursor(false)).collect();
    let places: Vec<&str> = places.iter().map(KeyCursor::name).collect();
    if !places.is_sorted_by(|a, b| a < b) {
        return Err("is not in order");
    }
    let after = asked.after.as_ref().map(KeyCursor::name);
    if after.is_some_and(|after| places.first().is_some_and(|first| *first <= after)) {
        return Err("begins before its place");
    }
    match &page.next {
        _ if places.len() > asked.limit as usize => Err("has too many"),
        // It may go on behind a key that is used up, and not shown.
        Some(next) if places.last().is_some_and(|last| next.name() < *last) => {
            Err("goes on before its end")
        }
        Some(_) if places.len() < asked.limit as usize => Err("is not full and not the last"),
        _ => Ok(()),
    }
}
