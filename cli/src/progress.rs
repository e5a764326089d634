//! A bar for a transfer, on standard error where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for `total` bytes, or without an end where that is not known.
pub fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    const KNOWN: &str =
        "{prefix:24!} {wide_bar} {bytes:>11} of {total_bytes:>11} {bytes_per_sec:>13} {eta:>4}";
    const OPEN: &str = "{prefix:24!} {spinner} {bytes:>11} {bytes_per_sec:>13}";
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), KNOWN),
        None => (ProgressBar::no_length(), OPEN),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}
