//! Figures of several rounds, and how they are shown.

use serde_json::json;

/// One measurement of something.
#[derive(Clone)]
pub struct Figure {
    /// What.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// A figure.
pub fn figure(what: &str, value: f64, unit: &'static str) -> Figure {
    Figure {
        what: what.to_owned(),
        value,
        unit,
    }
}

/// Shows the median and the range of each figure, in the order of the first round.
pub fn report(figures: &[Figure], as_json: bool) {
    let mut order: Vec<&str> = Vec::new();
    for figure in figures {
        if !order.contains(&figure.what.as_str()) {
            order.push(&figure.what);
        }
    }
    let mut rows = Vec::new();
    for what in order {
        let same: Vec<_> = figures
            .iter()
            .filter(|figure| figure.what == what)
            .collect();
        let mut values: Vec<f64> = same.iter().map(|figure| figure.value).collect();
        values.sort_by(f64::total_cmp);
        let (low, median, high) = (
            values[0],
            values[values.len() / 2],
            values[values.len() - 1],
        );
        rows.push((what, median, low, high, same[0].unit));
    }
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(what, median, low, high, unit)| {
                json!({"what": what, "median": median, "low": low, "high": high, "unit": unit})
            })
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return;
    }
    println!("| what | median | range | |\n| --- | ---: | --- | --- |");
    for (what, median, low, high, unit) in rows {
        println!(
            "| {what} | {} | {} to {} | {unit} |",
            short(median),
            short(low),
            short(high)
        );
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The median of durations, in milliseconds.
pub fn median_millis(mut durations: Vec<std::time::Duration>) -> f64 {
    durations.sort_unstable();
    durations
        .get(durations.len() / 2)
        .map_or(0.0, |middle| middle.as_secs_f64() * 1e3)
}
