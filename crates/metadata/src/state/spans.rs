//! How often each byte of an object was served under a ticket: at most twice,
//! so that a ticket is one download with its retries and not many.

use minicbor::{Decode, Encode};

use crate::command::ByteSpan;

/// How often each byte may be served.
const MAX_TIMES: u8 = 2;
/// The most runs kept for a ticket, so that its row stays below 8 KiB.
const MAX_RUNS: usize = 256;

/// Runs of bytes and how often each was promised, in order, without gaps of
/// count zero and without equal neighbours that touch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(transparent)]
pub(crate) struct Spans(#[n(0)] Vec<(u64, u64, u8)>);

/// Why a span was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpanError {
    /// Some byte of it was promised twice already.
    Used,
    /// Too many separate runs.
    TooMany,
}

impl Spans {
    /// Counts a span, or says why not and changes nothing.
    pub(crate) fn add(&mut self, span: ByteSpan) -> Result<(), SpanError> {
        if span.first >= span.end {
            return Ok(());
        }
        let full = |(first, end, times): &(u64, u64, u8)| {
            *times >= MAX_TIMES && *first < span.end && span.first < *end
        };
        if self.0.iter().any(full) {
            return Err(SpanError::Used);
        }
        let changed = self.changed(span, |times| times + 1);
        if changed.len() > MAX_RUNS {
            return Err(SpanError::TooMany);
        }
        self.0 = changed;
        Ok(())
    }

    /// Takes a span back; what was not counted stays so.
    pub(crate) fn subtract(&mut self, span: ByteSpan) {
        if span.first < span.end {
            // A run more than the limit is harmless; losing count is not.
            self.0 = self.changed(span, |times| times.saturating_sub(1));
        }
    }

    /// Whether nothing of an object of that size may be served any more.
    pub(crate) fn used_up(&self, size: u64) -> bool {
        size == 0 || self.0 == [(0, size, MAX_TIMES)]
    }

    fn changed(&self, span: ByteSpan, change: impl Fn(u8) -> u8) -> Vec<(u64, u64, u8)> {
        let mut edges: Vec<u64> = self.0.iter().flat_map(|run| [run.0, run.1]).collect();
        edges.extend([span.first, span.end]);
        edges.sort_unstable();
        edges.dedup();
        let mut runs: Vec<(u64, u64, u8)> = Vec::with_capacity(self.0.len() + 2);
        let mut at = 0;
        for pair in edges.windows(2) {
            let &[first, end] = pair else { continue };
            while self.0.get(at).is_some_and(|run| run.1 <= first) {
                at += 1;
            }
            let mut times = self
                .0
                .get(at)
                .filter(|run| run.0 <= first)
                .map_or(0, |run| run.2);
            if span.first <= first && end <= span.end {
                times = change(times);
            }
            match runs.last_mut() {
                Some(last) if last.1 == first && last.2 == times => last.1 = end,
                _ if times > 0 => runs.push((first, end, times)),
                _ => {}
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, end: u64) -> ByteSpan {
        ByteSpan { first, end }
    }

    #[test]
    fn counts_agree_with_an_array_of_counts() {
        let mut seed = 7_u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut spans = Spans::default();
        let mut model = [0_u8; 64];
        for _ in 0..3_000 {
            let first = draw(64);
            let end = first + draw(65 - first);
            let bytes = first as usize..end as usize;
            if draw(3) == 0 {
                spans.subtract(span(first, end));
                model[bytes]
                    .iter_mut()
                    .for_each(|n| *n = n.saturating_sub(1));
            } else if model[bytes.clone()].contains(&2) {
                assert_eq!(spans.add(span(first, end)), Err(SpanError::Used));
            } else {
                assert_eq!(spans.add(span(first, end)), Ok(()));
                model[bytes].iter_mut().for_each(|n| *n += 1);
            }
            let mut seen = [0_u8; 64];
            for (first, end, times) in &spans.0 {
                assert!(first < end && *times > 0);
                seen[*first as usize..*end as usize].fill(*times);
            }
            assert_eq!(seen, model);
        }
    }

    #[test]
    fn a_ticket_of_many_small_runs_ends() {
        let mut spans = Spans::default();
        let ended = (0..1_000).find(|n| spans.add(span(n * 2, n * 2 + 1)).is_err());
        assert_eq!(ended, Some(MAX_RUNS as u64));
    }
}
