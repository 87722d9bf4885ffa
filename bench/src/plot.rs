//! Curves over time, as an SVG picture.

use std::fmt::Write;

/// A chart.
pub struct Plot<'a> {
    /// The labels of the axes.
    pub x: &'a str,
    pub y: &'a str,
    pub curves: &'a [Curve],
}

/// One curve.
pub struct Curve {
    pub name: &'static str,
    pub colour: &'static str,
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 48.0;

impl Plot<'_> {
    /// Returns the picture.
    pub fn svg(&self) -> String {
        let all = || self.curves.iter().flat_map(|curve| &curve.points);
        let right = all().map(|point| point.0).fold(1.0, f64::max);
        let top = round_up(all().map(|point| point.1).fold(1.0, f64::max));
        let x = |value: f64| MARGIN + value / right * (WIDTH - 2.0 * MARGIN);
        let y = |value: f64| HEIGHT - MARGIN - value / top * (HEIGHT - 2.0 * MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        for part in 0..=4 {
            let value = top * f64::from(part) / 4.0;
            let _ = writeln!(
                svg,
                "<path d=\"M{:.1} {1:.1}H{2:.1}\" stroke=\"#ddd\"/><text x=\"{3:.1}\" y=\"{4:.1}\" text-anchor=\"end\">{value:.0}</text>",
                x(0.0),
                y(value),
                x(right),
                x(0.0) - 6.0,
                y(value) + 4.0
            );
        }
        for part in 0..=8 {
            let value = right * f64::from(part) / 8.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.0}</text>",
                x(value),
                y(0.0) + 18.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            x(right),
            y(0.0) + 36.0,
            self.x
        );
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x(0.0) - 30.0, y(top) - 12.0, self.y);
        for (row, curve) in self.curves.iter().enumerate() {
            let points: Vec<String> =
                curve.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{1}\" stroke-width=\"1.5\"/><text x=\"{2:.1}\" y=\"24\" fill=\"{1}\">{3}</text>",
                points.join(" "),
                curve.colour,
                x(0.0) + 60.0 + 200.0 * row as f64,
                curve.name
            );
        }
        svg + "</svg>\n"
    }
}

/// Returns a round number that is at least `value`.
fn round_up(value: f64) -> f64 {
    let magnitude = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        .map(|times| times * magnitude)
        .into_iter()
        .find(|&round| round >= value)
        .unwrap_or(value)
}
