//! A map that forgets what was used longest ago when it is full.

use std::collections::BTreeMap;

/// A bounded map. The weight of an entry is the caller's to say.
#[derive(Debug)]
pub(crate) struct Lru<V> {
    max_weight: usize,
    weight: usize,
    clock: u64,
    entries: BTreeMap<String, Entry<V>>,
    by_use: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<V> Lru<V> {
    pub(crate) fn new(max_weight: usize) -> Self {
        Self {
            max_weight,
            weight: 0,
            clock: 0,
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// The value of `key`, which counts as used.
    pub(crate) fn get(&mut self, key: &str) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, key.to_owned());
        Some(&mut entry.value)
    }

    /// Keeps a value and forgets others until it fits. One that weighs more
    /// than all may is not kept.
    pub(crate) fn put(&mut self, key: &str, value: V, weight: usize) {
        self.remove(key);
        if weight > self.max_weight {
            return;
        }
        while self.weight + weight > self.max_weight {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
        self.clock += 1;
        let used = self.clock;
        self.by_use.insert(used, key.to_owned());
        let entry = Entry {
            value,
            weight,
            used,
        };
        self.entries.insert(key.to_owned(), entry);
        self.weight += weight;
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.used);
        self.weight -= entry.weight;
        Some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut lru = Lru::new(3);
        for key in ["a", "b", "c"] {
            lru.put(key, key, 1);
        }
        assert!(lru.get("a").is_some());
        lru.put("d", "d", 1);
        assert!(lru.get("b").is_none());
        assert!(lru.get("a").is_some() && lru.get("c").is_some() && lru.get("d").is_some());
        lru.put("e", "e", 3);
        assert_eq!(lru.entries.len(), 1);
        assert_eq!(lru.by_use.len(), 1);
    }

    #[test]
    fn its_weight_stays_within_its_limit() {
        let mut lru = Lru::new(10);
        lru.put("big", (), 11);
        assert!(lru.get("big").is_none());
        for n in 0..100_usize {
            lru.put(&format!("{}", n % 7), (), n % 5);
            assert!(lru.weight <= 10);
            assert_eq!(lru.entries.len(), lru.by_use.len());
            assert_eq!(
                lru.weight,
                lru.entries.values().map(|e| e.weight).sum::<usize>()
            );
        }
    }
}
