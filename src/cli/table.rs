//! Aligned tables, as Kafka's tools print them.

use std::io::{self, Write};

use super::escape::{Escaping, escaped};

/// What stands where there is nothing.
const NOTHING: &str = "-";

/// Rows under a head. Whatever a cell holds, a row stays one line, fit for a terminal.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes it: two spaces between columns that are as wide as their longest cell, none at the ends of lines.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(out, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A number.
pub(super) fn number(number: impl ToString) -> String {
    number.to_string()
}

/// A number, where there is one.
pub(super) fn number_or_nothing(number: Option<impl ToString>) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
}

/// Text, whatever is in it. A `\` is doubled, so that no two texts look the same.
pub(super) fn text(text: &str) -> String {
    escaped(text.as_bytes(), Escaping::Reversible)
}

/// Text, where there is some.
pub(super) fn text_or_nothing(value: Option<&str>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new(["GROUP", "LAG", "ID"]);
        table.row([text("caf\u{e9}s \u{2603}"), number(7), text_or_nothing(None)]);
        table.row([text("a\n\\"), number_or_nothing(Some(12_345)), text_or_nothing(Some("\u{1b}"))]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GROUP    LAG    ID\n\
             caf\u{e9}s \u{2603}  7      -\n\
             a\\n\\\\    12345  \\x1b\n"
        );
    }
}
