//! A table for people on standard output, JSON lines for programs in a file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Result, Scale, machine};

/// What a figure is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    AtMost(f64),
}

/// One measured figure.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// Which bench it belongs to.
    bench: String,
    case: String,
    unit: &'static str,
    value: f64,
    baseline: Option<(&'static str, f64)>,
    target: Option<Target>,
    /// More numbers of the same run, under names of their own.
    extras: Vec<(&'static str, f64)>,
    /// Where it goes in a plot: the plot's name, the line's, and x.
    place: Option<(&'static str, &'static str, f64)>,
}

impl Figure {
    pub(crate) fn new(bench: impl Into<String>, case: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            bench: bench.into(),
            case: case.into(),
            unit,
            value,
            baseline: None,
            target: None,
            extras: Vec::new(),
            place: None,
        }
    }

    /// What the baseline took, in the same unit.
    pub(crate) fn against(mut self, name: &'static str, value: f64) -> Self {
        self.baseline = Some((name, value));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn extra(mut self, name: &'static str, value: f64) -> Self {
        self.extras.push((name, value));
        self
    }

    pub(crate) fn plotted(mut self, plot: &'static str, line: &'static str, x: f64) -> Self {
        self.place = Some((plot, line, x));
        self
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        self.baseline.map(|(_, baseline)| self.value / baseline)
    }

    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        self.target.map(|target| match target {
            Target::RatioAtMost(most) => ratio <= most,
            Target::RatioAtLeast(least) => ratio >= least,
            Target::AtMost(most) => self.value <= most,
        })
    }

    fn line(&self) -> String {
        let Self { bench, case, unit, value, .. } = self;
        let mut line = format!("{:<46} {:>9} {unit:<7}", format!("{bench}, {case}"), number(*value));
        if let Some((name, baseline)) = self.baseline {
            let ratio = self.ratio().map(|ratio| format!("{ratio:.2} x")).unwrap_or_default();
            let _ = write!(line, " {ratio:>8} of {:>8}, {name}", number(baseline));
        }
        if let Some(target) = self.target {
            let verdict = if self.is_met() == Some(true) { "met" } else { "MISSED" };
            let _ = write!(line, "; target {}: {verdict}", target_text(target, unit));
        }
        for (name, value) in &self.extras {
            let _ = write!(line, "; {name} {}", number(*value));
        }
        line
    }

    fn json(&self) -> String {
        let Self { bench, case, unit, value, .. } = self;
        let mut json = format!("{{\"bench\":{bench:?},\"case\":{case:?},\"unit\":{unit:?},\"value\":{value}");
        if let (Some((name, baseline)), Some(ratio)) = (self.baseline, self.ratio()) {
            let _ = write!(json, ",\"baseline\":{baseline},\"baseline_name\":{name:?},\"ratio\":{ratio}");
        }
        if let (Some(target), Some(met)) = (self.target, self.is_met()) {
            let _ = write!(json, ",\"target\":{:?},\"met\":{met}", target_text(target, unit));
        }
        if let Some((plot, line, x)) = self.place {
            let _ = write!(json, ",\"plot\":{plot:?},\"line\":{line:?},\"x\":{x}");
        }
        for (name, value) in &self.extras {
            let _ = write!(json, ",{name:?}:{value}");
        }
        json.push('}');
        json
    }
}

fn target_text(target: Target, unit: &str) -> String {
    match target {
        Target::RatioAtMost(most) => format!("at most {most} x"),
        Target::RatioAtLeast(least) => format!("at least {least} x"),
        Target::AtMost(most) => format!("at most {most} {unit}"),
    }
}

/// Three or more significant digits, thousands separated.
pub(crate) fn number(value: f64) -> String {
    let text = match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut separated = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            separated.push(',');
        }
        separated.push(digit);
    }
    separated + rest
}

/// Where figures go as soon as they are known.
#[derive(Debug)]
pub(crate) struct Report {
    json: File,
    path: PathBuf,
}

impl Report {
    /// Begins the JSON file, and says on what machine and how everything below is measured.
    pub(crate) fn begin(path: &Path, scale: Scale) -> Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut json = File::create(path)?;
        let (date, machine, load) = (machine::date(), machine::description(), machine::load());
        let scheduler = machine::scheduler();
        println!(
            "date:      {date}\nmachine:   {machine}\nscheduler: {scheduler}\nload:      {load}\nscale:     {scale:?}\n"
        );
        let scale = format!("{scale:?}");
        writeln!(
            json,
            "{{\"date\":{date:?},\"machine\":{machine:?},\"scheduler\":{scheduler:?},\"load\":{load:?},\"scale\":{scale:?}}}"
        )?;
        Ok(Self { json, path: path.to_owned() })
    }

    pub(crate) fn add(&mut self, figure: &Figure) -> Result {
        println!("{}", figure.line());
        self.record(figure)
    }

    /// Without printing it.
    pub(crate) fn record(&mut self, figure: &Figure) -> Result {
        Ok(writeln!(self.json, "{}", figure.json())?)
    }

    /// Where the JSON lines are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
