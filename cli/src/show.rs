//! What is printed, for people and for programs.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use serde_json::Value;

/// Prints a line like `println!`, which panics when nobody reads it.
macro_rules! say {
    ($($text:tt)*) => { $crate::show::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// Writes a line to standard output. A reader that has gone (`| head`) ends
/// neither the command nor its work; an output that cannot be written does, as
/// what it leaves behind would look whole.
pub fn line(text: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("holdfast: standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// How results are printed.
#[derive(Clone, Copy)]
pub struct Output {
    /// As JSON, one value a line.
    pub json: bool,
}

impl Output {
    /// Prints a value as one line of JSON.
    pub fn value(self, value: &Value) {
        say!("{value}");
    }

    /// Prints rows in columns as wide as their widest cell.
    pub fn table(self, heads: &[&str], rows: &[Vec<String>]) {
        say!("{}", table(heads, rows).trim_end());
    }
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let width = |column: usize| {
        std::iter::once(&heads)
            .chain(rows)
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| {
                let fill = width.saturating_sub(cell.chars().count());
                format!("{cell}{}", " ".repeat(fill))
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A field of an answer as a cell: text as it is, nothing as `-`.
pub fn cell(value: &Value, field: &str) -> String {
    match value.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        // Control characters of a name would reach the terminal.
        Some(Value::String(text)) => text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
        Some(other) => other.to_string(),
    }
}

/// A field that counts bytes.
pub fn size_cell(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_u64)
        .map_or_else(|| "-".to_owned(), size)
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["1".to_owned(), "photo.jpg".to_owned()],
            vec!["22".to_owned(), "ü".to_owned()],
        ];
        assert_eq!(
            table(&["id", "name"], &rows),
            "id  name\n1   photo.jpg\n22  ü\n"
        );
    }

    #[test]
    fn names_cannot_command_the_terminal() {
        let value = serde_json::json!({ "filename": "a\u{1b}[31mb", "left": null });
        assert_eq!(cell(&value, "filename"), "a?[31mb");
        assert_eq!(cell(&value, "left"), "-");
    }
}
