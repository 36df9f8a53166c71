//! A table of contenders, best first.

use crate::harness::report::{Figure, number};
use crate::harness::{Context, Result};

/// Which end is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

/// The figures of one workload.
pub(crate) struct Table {
    title: String,
    better: Better,
    baseline: &'static str,
    unit: &'static str,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    value: f64,
    baseline: f64,
    extras: Vec<(&'static str, f64)>,
}

/// A ratio within this part of the best counts as tied: less than the spread between two runs.
const TIE: f64 = 0.05;

impl Table {
    pub(crate) fn new(title: impl Into<String>, unit: &'static str, baseline: &'static str, better: Better) -> Self {
        Self { title: title.into(), better, baseline, unit, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, value: f64, baseline: f64, extras: Vec<(&'static str, f64)>) {
        eprintln!("  {}: {name} {} {}", self.title, number(value), self.unit);
        self.rows.push(Row { name, value, baseline, extras });
    }

    /// Prints the table with brooklet's place, and reports each row.
    pub(crate) fn print(mut self, context: &mut Context) -> Result {
        self.rows.sort_by(|a, b| a.badness(self.better).total_cmp(&b.badness(self.better)));
        let Self { title, unit, baseline, .. } = &self;
        println!("\n### {title}\n\n| | {unit} | {baseline} | ratio | |\n|---|---:|---:|---:|---|");
        for row in &self.rows {
            let extras: Vec<_> = row.extras.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
            let (value, raw, ratio) = (number(row.value), number(row.baseline), row.value / row.baseline);
            println!("| {} | {value} | {raw} | {ratio:.2} | {} |", row.name, extras.join(", "));
            let figure = Figure::new(title.clone(), row.name, row.value, unit).against(baseline, row.baseline);
            let figure = row.extras.iter().fold(figure, |figure, (name, value)| figure.extra(name, *value));
            context.report.record(&figure)?;
        }
        println!("\nbrooklet: {}\n", self.place());
        Ok(())
    }

    /// First, tied, or after whom. A plain file promises less than the others, and does not count.
    fn place(&self) -> String {
        let rivals: Vec<&Row> = self.rows.iter().filter(|row| row.name != "a plain file").collect();
        let Some(ours) = rivals.iter().find(|row| row.name == "brooklet") else { return "not measured".to_owned() };
        let ours = ours.badness(self.better);
        let before: Vec<&str> =
            rivals.iter().filter(|row| row.badness(self.better) < ours / (1.0 + TIE)).map(|row| row.name).collect();
        match before.as_slice() {
            [] if rivals.first().is_some_and(|first| first.name == "brooklet") => "first".to_owned(),
            [] => "tied with the first".to_owned(),
            before => format!("place {} of {}, after {}", before.len() + 1, rivals.len(), before.join(", ")),
        }
    }
}

impl Row {
    /// The less, the better.
    fn badness(&self, better: Better) -> f64 {
        match better {
            Better::Less => self.value / self.baseline,
            Better::More => self.baseline / self.value,
        }
    }
}
