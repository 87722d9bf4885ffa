//! Charts as SVG: bars that compare our figures with those of peers, and lines that show how a cost grows.
//!
//! Axes that show a ratio or a cost are logarithmic, so "twice as good" and "half as good" are equally far
//! from "equal".

use std::fmt::Write as _;

use crate::pairs::Comparison;
use crate::stats::median;
use crate::workload::Better;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 290.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 17.0;
/// The space between two workloads.
const GAP: f64 = 7.0;
const TOP: f64 = 46.0;

const BETTER: &str = "#2a7f62";
const WORSE: &str = "#b5542c";
const GREY: &str = "#888888";
/// A color that is readable on a white page and on a dark one.
const TEXT: &str = "#6b7280";

/// A picture that is being drawn.
struct Svg {
    body: String,
    height: f64,
}

impl Svg {
    fn new(height: f64) -> Svg {
        Svg { body: String::new(), height }
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, what: &str) {
        let what = what.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{TEXT}">{what}</text>"#
        );
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        let _ = writeln!(
            self.body,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        );
    }

    fn bar(&mut self, from: f64, to: f64, y: f64, colour: &str) {
        let (x, width) = (from.min(to), (from - to).abs().max(1.0));
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="12" fill="{colour}" fill-opacity="0.75"/>"#
        );
    }

    fn path(&mut self, points: &[(f64, f64)], colour: &str) {
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let list = list.join(" ");
        let _ = writeln!(
            self.body,
            r#"<polyline points="{list}" fill="none" stroke="{colour}" stroke-width="2"/>"#
        );
        for (x, y) in points {
            let _ = writeln!(self.body, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
        }
    }

    fn done(self) -> String {
        let height = self.height;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\" font-family=\"sans-serif\">\n{}</svg>\n",
            self.body
        )
    }
}

/// A logarithmic axis over these values, in whole powers of `base`.
struct Axis {
    from: f64,
    to: f64,
    base: f64,
    place: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, base: f64, place: (f64, f64)) -> Axis {
        let logs = values.filter(|v| v.is_finite() && *v > 0.0).map(|v| v.ln() / base.ln());
        let (low, high) = logs.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low.floor(), high.ceil()) };
        Axis { from: low, to: if high > low { high } else { low + 1.0 }, base, place }
    }

    fn at(&self, value: f64) -> f64 {
        let (from, to) = self.place;
        let share = (value.max(f64::MIN_POSITIVE).ln() / self.base.ln() - self.from) / (self.to - self.from);
        from + share.clamp(0.0, 1.0) * (to - from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let step = ((self.to - self.from) / 12.0).ceil().max(1.0);
        let count = ((self.to - self.from) / step) as i32;
        (0..=count).map(move |i| self.base.powf(self.from + step * f64::from(i)))
    }
}

/// A bar that shows how many times as good as the peer procession is, with the extremes.
struct Bar {
    peer: &'static str,
    times: (f64, f64, f64),
}

fn bars(comparison: &Comparison) -> Vec<Bar> {
    let (workload, ours) = (comparison.workload, &comparison.series[0]);
    let bar = |series| {
        let mut ratios = ours.ratios(series);
        if workload.better == Better::Lower {
            ratios.iter_mut().for_each(|ratio| *ratio = 1.0 / *ratio);
        }
        let low = ratios.iter().copied().reduce(f64::min)?;
        let high = ratios.iter().copied().reduce(f64::max)?;
        let middle = median(&ratios).filter(|m| m.is_finite() && *m > 0.0)?;
        Some(Bar { peer: series.contender.name, times: (low, middle, high) })
    };
    comparison.series.iter().skip(1).filter_map(bar).collect()
}

/// Returns a picture of how many times as good as each peer procession is, in every workload.
pub fn ratios(comparisons: &[Comparison], machine: &str) -> String {
    let groups: Vec<_> =
        comparisons.iter().map(|c| (c.workload.name, bars(c))).filter(|g| !g.1.is_empty()).collect();
    let rows = groups.iter().map(|(_, bars)| ROW * bars.len() as f64 + GAP).sum::<f64>();
    let mut svg = Svg::new(TOP + rows + 30.0);
    let all =
        groups.iter().flat_map(|(_, bars)| bars).flat_map(|bar| [bar.times.0, bar.times.1, bar.times.2, 1.0]);
    let axis = Axis::over(all, 2.0, (LEFT, WIDTH - RIGHT));
    let bottom = svg.height - 24.0;
    for tick in axis.ticks() {
        svg.line((axis.at(tick), TOP - 6.0), (axis.at(tick), bottom), GREY, 0.3);
        svg.text(axis.at(tick), bottom + 14.0, "middle", 10.0, &label(tick));
    }
    svg.line((axis.at(1.0), TOP - 6.0), (axis.at(1.0), bottom), GREY, 1.5);
    svg.text(
        8.0,
        16.0,
        "start",
        13.0,
        "How many times as good as: medians, with extremes. To the right of 1 we are better.",
    );
    svg.text(8.0, 32.0, "start", 10.0, machine);
    let mut y = TOP;
    for (workload, bars) in &groups {
        svg.text(8.0, y + 10.0, "start", 11.0, workload);
        for Bar { peer, times: (low, middle, high) } in bars {
            svg.text(LEFT - 8.0, y + 10.0, "end", 11.0, peer);
            svg.bar(axis.at(1.0), axis.at(*middle), y, if *middle >= 1.0 { BETTER } else { WORSE });
            svg.line((axis.at(*low), y + 6.0), (axis.at(*high), y + 6.0), GREY, 1.0);
            svg.text(WIDTH - 8.0, y + 10.0, "end", 11.0, &label(*middle));
            y += ROW;
        }
        y += GAP;
    }
    svg.done()
}

/// The cost of one contender at each size.
pub struct Line {
    /// The name of the contender.
    pub name: String,
    /// Size and cost.
    pub points: Vec<(f64, f64)>,
}

/// The growth of a cost.
pub struct Growth {
    /// The title.
    pub title: String,
    /// The quantity that grows.
    pub of: String,
    /// One line for each contender. The first is ours.
    pub lines: Vec<Line>,
}

/// Returns one picture with all charts, one below the other.
pub fn growth(all: &[Growth], machine: &str) -> String {
    const PANEL: f64 = 250.0;
    let mut svg = Svg::new(30.0 + PANEL * all.len() as f64);
    svg.text(8.0, 18.0, "start", 10.0, machine);
    for (at, growth) in all.iter().enumerate() {
        panel(&mut svg, growth, 30.0 + PANEL * at as f64);
    }
    svg.done()
}

fn panel(svg: &mut Svg, growth: &Growth, top: f64) {
    const COLOURS: [&str; 3] = [BETTER, WORSE, GREY];
    let points = || growth.lines.iter().flat_map(|line| &line.points);
    let across = Axis::over(points().map(|p| p.0), 2.0, (90.0, WIDTH - 150.0));
    let up = Axis::over(points().map(|p| p.1), 10.0, (top + 200.0, top + 30.0));
    svg.text(8.0, top + 16.0, "start", 13.0, &growth.title);
    svg.text(WIDTH - 150.0, top + 232.0, "end", 11.0, &growth.of);
    for tick in across.ticks() {
        svg.text(across.at(tick), top + 216.0, "middle", 10.0, &size(tick));
    }
    for tick in up.ticks() {
        svg.line((90.0, up.at(tick)), (WIDTH - 150.0, up.at(tick)), GREY, 0.3);
        svg.text(84.0, up.at(tick) + 3.0, "end", 10.0, &label(tick));
    }
    for (line, colour) in growth.lines.iter().zip(COLOURS) {
        let places: Vec<_> = line.points.iter().map(|&(x, y)| (across.at(x), up.at(y))).collect();
        svg.path(&places, colour);
        if let Some(&(x, y)) = places.last() {
            svg.text(x + 8.0, y + 4.0, "start", 11.0, &line.name);
        }
    }
}

fn label(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.0}M", v / 1e6),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.01 => format!("{v:.2}"),
        v => format!("{v:.4}"),
    }
}

fn size(value: f64) -> String {
    match value {
        v if v >= f64::from(1 << 20) => format!("{:.0}M", v / f64::from(1 << 20)),
        v if v >= 1024.0 => format!("{:.0}k", v / 1024.0),
        v => format!("{v:.0}"),
    }
}
