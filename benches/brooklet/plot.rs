//! Draws the scaling figures: an SVG file for each plot, both axes logarithmic, the baseline dashed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::Result;
use crate::harness::report::number;

/// A line's points, and whether it is a baseline's.
#[derive(Debug, Default)]
struct Line {
    points: Vec<(f64, f64)>,
    is_baseline: bool,
}

/// The lines of a plot by name, and what y counts.
#[derive(Debug, Default)]
struct Plot {
    lines: BTreeMap<String, Line>,
    unit: String,
}

/// Reads the JSON lines, copies them beside the plots and draws those.
pub(crate) fn draw(json: &Path) -> Result {
    let text =
        fs::read_to_string(json).map_err(|error| format!("{}: {error}: run the benches first", json.display()))?;
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches").join("plots");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("scaling.jsonl"), &text)?;
    for (name, plot) in plots(&text) {
        let path = directory.join(format!("{}.svg", name.replace(' ', "-")));
        fs::write(&path, plot.svg(&name))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn plots(text: &str) -> BTreeMap<String, Plot> {
    let mut plots: BTreeMap<String, Plot> = BTreeMap::new();
    for row in text.lines() {
        let value = |key| field(row, key).and_then(|value| value.parse::<f64>().ok());
        let (Some(name), Some(line), Some(x), Some(y)) =
            (field(row, "plot"), field(row, "line"), value("x"), value("value"))
        else {
            continue;
        };
        let plot = plots.entry(name.to_owned()).or_default();
        plot.unit = field(row, "unit").unwrap_or_default().to_owned();
        plot.lines.entry(line.to_owned()).or_default().points.push((x, y));
        if let (Some(baseline), Some(baseline_name)) = (value("baseline"), field(row, "baseline_name")) {
            let line = plot.lines.entry(baseline_name.to_owned()).or_default();
            line.is_baseline = true;
            line.points.push((x, baseline));
        }
    }
    plots
}

/// A field of a line as the report wrote it: a number, or text without quotes in it.
fn field<'a>(row: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = row.split_once(&format!("\"{key}\":"))?;
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}']).next(),
    }
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#4b8f4b", "#8a5aa8", "#b8860b", "#555555"];

/// From a value to a place on the page.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// From the power of ten below the least value to the one above the greatest.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0) {
            low = low.min(value.log10().floor());
            high = high.max(value.log10().ceil());
        }
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> + use<> {
        let (low, high) = (self.low, self.high);
        (0..40)
            .map(move |step| low + f64::from(step))
            .take_while(move |power| *power <= high)
            .map(|power| 10_f64.powf(power))
    }
}

impl Plot {
    fn svg(&self, name: &str) -> String {
        let points = || self.lines.values().flat_map(|line| line.points.iter());
        let x = Axis::over(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{name}: {}</text>\n",
            self.unit
        );
        grid(&mut svg, x, y);
        for ((name, line), (index, colour)) in self.lines.iter().zip(COLOURS.iter().cycle().enumerate()) {
            line.draw(&mut svg, x, y, colour);
            let (left, top) = (WIDTH - RIGHT + 20.0, TOP + 20.0 * index as f64 + 10.0);
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"{top}\" fill=\"{colour}\">{name}</text>");
        }
        svg + "</svg>\n"
    }
}

fn grid(svg: &mut String, x: Axis, y: Axis) {
    for value in x.powers() {
        let (at, top, bottom) = (x.place(value), TOP, HEIGHT - BOTTOM);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>");
        let below = bottom + 18.0;
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", tick(value));
    }
    for value in y.powers() {
        let (at, left, right) = (y.place(value), LEFT, WIDTH - RIGHT);
        let _ = writeln!(svg, "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        let (beside, middle) = (left - 8.0, at + 4.0);
        let _ = writeln!(svg, "<text x=\"{beside}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>", tick(value));
    }
}

fn tick(value: f64) -> String {
    number(value).trim_end_matches(".00").trim_end_matches(".0").to_owned()
}

impl Line {
    fn draw(&self, svg: &mut String, x: Axis, y: Axis, colour: &str) {
        let places: Vec<String> =
            self.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x.place(*a), y.place(*b))).collect();
        let dashes = if self.is_baseline { " stroke-dasharray=\"4 4\"" } else { "" };
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            places.join(" ")
        );
        for (a, b) in &self.points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x.place(*a),
                y.place(*b)
            );
        }
    }
}
