//! How much of a merged page each group is asked for.
//!
//! Keys are spread over the groups by a hash, so of a page of 1,000 over 16
//! groups each has some 63, and to ask each for 1,000 would be 16 times the
//! work. Each is asked for its share and a bit; one that turns out to have more
//! of the page is asked again, for all of its part: what a group contributes is
//! one answer of one moment.

/// How often a group's part grows when it was too small.
const GROWTH: u32 = 4;

/// What each of `groups` is asked for first, of a page of `limit`: the mean,
/// four standard deviations and a little.
pub(super) fn first_share(limit: u32, groups: usize) -> u32 {
    let groups = u32::try_from(groups).unwrap_or(u32::MAX).max(1);
    let mean = limit.div_ceil(groups);
    let share = mean.saturating_add(4 * mean.isqrt()).saturating_add(8);
    share.min(limit)
}

/// What a group is asked for whose share was too small.
pub(super) fn next_share(share: u32, limit: u32) -> u32 {
    share.saturating_mul(GROWTH).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_more_than_the_mean_and_never_more_than_the_page() {
        assert_eq!(first_share(1_000, 16), 99);
        assert_eq!(first_share(1_000, 1), 1_000);
        assert_eq!(first_share(5, 16), 5);
        assert_eq!(first_share(50, 16), 20);
        assert_eq!(
            (next_share(99, 1_000), next_share(396, 1_000)),
            (396, 1_000)
        );
    }
}
