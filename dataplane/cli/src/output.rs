//! The two forms of a result: a table for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::{cli::Format, error::Error};

/// Something that prints as a row of a table.
pub(crate) trait Row {
    const HEADER: &'static [&'static str];

    fn cells(&self) -> Vec<String>;
}

/// A table without lines: columns apart by two spaces, so that `awk` and eyes both can.
pub(crate) fn table<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(R::HEADER.iter().copied());
    for row in rows {
        table.add_row(row.cells());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Prints `rows` in the form asked for.
///
/// # Errors
/// When standard output does not take it.
pub(crate) fn print_rows<R: Row + Serialize>(format: Format, rows: &[R]) -> Result<(), Error> {
    match format {
        Format::Table => print_text(&table(rows)),
        Format::Json => print_json(&rows),
    }
}

/// Prints `value` as JSON and ends the line.
///
/// # Errors
/// When standard output does not take it.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print_text(&text)
}

/// Prints text as it is. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// When standard output does not take it.
pub(crate) fn print_text(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair(&'static str, u32);

    impl Row for Pair {
        const HEADER: &'static [&'static str] = &["name", "count"];

        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_string()]
        }
    }

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let text = table(&[Pair("toswitch1", 1), Pair("red", 23)]);
        assert_eq!(text, "name       count\ntoswitch1  1\nred        23\n");
    }
}
