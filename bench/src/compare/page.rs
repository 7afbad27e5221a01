//! The comparison as a page that a person would rather look at: a bar for each proxy, the spread of its turns, the tables beneath.
//!
//! Room  pure: figures in, one self-contained HTML file with inline SVG out; light and dark as the reader has it.
//! Holds every text is escaped; no figure is drawn that was not measured.

use std::fmt::Write as _;

use super::statistics::Spread;

/// Width of the drawing and of a bar's row, in SVG units.
const WIDTH: f64 = 720.0;
const NAMES: f64 = 180.0;
const ROW: f64 = 30.0;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #67707b; --ours: #2463c8; --theirs: #9aa5b1; --line: #d8dde3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --soft: #98a2ad; --ours: #6ea2f5; --theirs: #5b6672; --line: #343b44; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; } p { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.ours { fill: var(--ours); } .theirs { fill: var(--theirs); } .whisker { stroke: var(--ink); stroke-width: 1.5; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
td, th { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
";

/// One scenario.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// Of the bars.
    pub(super) unit: String,
    /// What our ratio to the best peer is meant to be.
    pub(super) target: f64,
    pub(super) bars: Vec<Bar>,
    /// The table: its head, then its rows.
    pub(super) cells: Vec<Vec<String>>,
}

/// One proxy.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) is_ours: bool,
    pub(super) cost: Spread,
    /// Ours ÷ it.
    pub(super) ratio: Option<Spread>,
}

/// The page. `how` says how it was measured, a paragraph each.
pub(super) fn page(how: &[String], charts: &[Chart]) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n<title>bench compare</title>",
    );
    let _ = write!(
        html,
        "<style>{STYLE}</style></head><body>\n<h1>Cost of a request</h1>\n"
    );
    for paragraph in how {
        let _ = writeln!(html, "<p>{}</p>", escaped(paragraph));
    }
    for chart in charts {
        let _ = writeln!(html, "<h2>{}</h2>", escaped(&chart.title));
        let _ = writeln!(
            html,
            "<p>{}: median, with the least and the greatest turn. Ratio: ours ÷ it in the same round; target against the best peer: {:.2}.</p>",
            escaped(&chart.unit),
            chart.target
        );
        html.push_str(&drawing(chart));
        html.push_str(&table(&chart.cells));
    }
    html.push_str("</body></html>\n");
    html
}

fn drawing(chart: &Chart) -> String {
    let greatest = chart.bars.iter().map(|bar| bar.cost.greatest);
    let most = greatest.fold(f64::MIN_POSITIVE, f64::max);
    // Room for the figures behind the longest bar.
    let scale = (WIDTH - NAMES - 190.0) / most;
    let mut svg = String::new();
    let mut top = 0.0;
    for bar in &chart.bars {
        let class = if bar.is_ours { "ours" } else { "theirs" };
        let (middle, width) = (top + ROW / 2.0, bar.cost.median * scale);
        let [least, greatest] =
            [bar.cost.least, bar.cost.greatest].map(|cost| NAMES + cost * scale);
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{}</text><rect class=\"{class}\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"3\"/>\
             <line class=\"whisker\" x1=\"{least:.1}\" x2=\"{greatest:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
            middle + 4.0,
            escaped(&bar.name),
            top + 6.0,
            ROW - 12.0,
        );
        let ratio = bar.ratio.map(|ratio| format!("  ({:.2})", ratio.median));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}{}</text>",
            greatest + 8.0,
            middle + 4.0,
            figure(bar.cost.median),
            ratio.unwrap_or_default()
        );
        top += ROW;
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {top}\" role=\"img\" aria-label=\"{}\">\n{svg}</svg>\n",
        escaped(&chart.title)
    )
}

/// Three digits that say something.
fn figure(cost: f64) -> String {
    match cost {
        cost if cost < 1.0 => format!("{cost:.3}"),
        cost if cost < 100.0 => format!("{cost:.1}"),
        cost => format!("{cost:.0}"),
    }
}

fn table(rows: &[Vec<String>]) -> String {
    let mut html = String::from("<table>\n");
    for (place, row) in rows.iter().enumerate() {
        let tag = if place == 0 { "th" } else { "td" };
        let cells = row.iter().map(|cell| {
            // The bold marks of the text report.
            let cell = escaped(cell).replace("**", "");
            format!("<{tag}>{cell}</{tag}>")
        });
        let _ = writeln!(html, "<tr>{}</tr>", cells.collect::<String>());
    }
    html.push_str("</table>\n");
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Bar, Chart, page};
    use crate::compare::statistics::Spread;

    fn spread(median: f64) -> Spread {
        Spread {
            median,
            least: median * 0.9,
            greatest: median * 1.1,
        }
    }

    #[test]
    fn bars_are_as_long_as_their_figures_and_no_text_is_markup() {
        let bar = |name: &str, cost, ratio| Bar {
            name: name.to_owned(),
            is_ours: name == "ours",
            cost: spread(cost),
            ratio,
        };
        let chart = Chart {
            title: "a <b> & \"c\"".to_owned(),
            unit: "µs".to_owned(),
            target: 0.7,
            bars: vec![
                bar("ours", 10.0, None),
                bar("<script>", 20.0, Some(spread(0.5))),
            ],
            cells: vec![vec!["proxy".to_owned()], vec!["**<i>**".to_owned()]],
        };
        let html = page(&["how <it> was".to_owned()], &[chart]);
        assert!(!html.contains("<script>") && !html.contains("<i>") && !html.contains("<it>"));
        let widths: Vec<f64> = html
            .split(" width=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
        assert!(
            html.contains("(0.50)")
                && html.contains("class=\"ours\"")
                && html.contains("target against the best peer: 0.70")
        );
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    }
}
