//! The rate–distortion figure: KL over the achieved keep_ratio, a line a compressor. Drawn as SVG by hand, so that every
//! point can be pointed at; all style is in attributes, so that the file alone looks the same.

use maud::{Markup, html};

use crate::error::Result;
use crate::eval::schema::comparison::{Comparison, Point};
use crate::report::figure::{AXIS, Figure, GRID, INK, MUTED, hex};
use crate::report::format::{decimals, nats_ci, percent, percent_ci};
use crate::report::lines::{Palette, apart, marker, px, short};
use crate::report::table::reader_title;

const SIZE: (u32, u32) = (1080, 600);
const LEFT: f64 = 148.0;
/// Right edge of a tick's KL label; its gap closed stands between that and the axis.
const KL_END: f64 = LEFT - 88.0;
const RIGHT: f64 = 858.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 536.0;
/// Distance between the names at the right.
const LINE: f64 = 20.0;
const TICKS: [f64; 13] = [0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0];

/// Layout of the plot, in pixels.
struct Scale {
    most: f64,
    low: f64,
    high: f64,
    /// The context value, against which bars are drawn: what all share cancels.
    context: f64,
}

impl Scale {
    /// Horizontal place of a share, on a square-root scale: it gives room to small shares, and 0 has a place.
    fn x(&self, share: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (share.max(0.0) / self.most).sqrt()
    }

    fn y(&self, kl: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (kl.clamp(self.low, self.high) - self.low) / (self.high - self.low)
    }
}

/// One compressor's points, by achieved keep_ratio.
struct Line<'a> {
    name: &'a str,
    trained: bool,
    color: String,
    marker: usize,
    points: Vec<&'a Point>,
}

fn lines<'a>(comparison: &'a Comparison, reader: &str) -> Vec<Line<'a>> {
    let mut palette = Palette::default();
    let mut lines = Vec::new();
    for contestant in &comparison.compressors {
        let own = |p: &&Point| p.compressor == contestant.name && p.reader == reader && p.kl.is_finite();
        let mut points: Vec<&Point> = comparison.points.iter().filter(own).collect();
        points.sort_by(|a, b| a.keep_ratio.total_cmp(&b.keep_ratio).then(a.budget_tokens.cmp(&b.budget_tokens)));
        let (color, marker) = palette.next(contestant.trained());
        lines.push(Line { name: &contestant.name, trained: contestant.trained(), color, marker, points });
    }
    lines.retain(|line| !line.points.is_empty());
    lines
}

/// Tooltip of a point.
pub fn words(point: &Point) -> String {
    format!(
        "{}: {} kept ({} tokens at most), KL {}, gap closed {}",
        point.compressor,
        percent(point.keep_ratio),
        point.budget_tokens,
        nats_ci(point.kl, point.kl_ci95),
        percent_ci(point.gap_closed, point.gap_closed_ci95)
    )
}

/// The figure of one reader; nothing when it read nobody.
pub fn curves(comparison: &Comparison, reader: &str) -> Result<Option<Figure>> {
    let lines = lines(comparison, reader);
    if lines.is_empty() {
        return Ok(None);
    }
    let scale = scale(comparison, &lines);
    let title = format!("Rate–distortion curves. {}", reader_title(reader));
    let svg = html! {
        svg width=(SIZE.0) height=(SIZE.1) viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1))
            xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" {
            (axes(comparison, &scale))
            (references(comparison, &scale))
            @for (i, line) in lines.iter().enumerate() { (curve((i, lines.len()), line, &scale)) }
            (names(&lines, &scale))
        }
    };
    Ok(Some(Figure::from_svg(&format!("rate-distortion-{reader}"), &title, SIZE, svg.into_string())))
}

fn scale(comparison: &Comparison, lines: &[Line]) -> Scale {
    let points = || lines.iter().flat_map(|line| &line.points);
    let bound = comparison.bound.iter().flatten();
    let shares = points().map(|p| p.keep_ratio).chain(bound.clone().map(|b| b[0]));
    let most = 1.04 * shares.filter(|x| x.is_finite()).fold(0.01, f64::max);
    // Intervals may be cut, points may not.
    let values = points().map(|p| p.kl).chain(bound.map(|b| b[1])).chain([comparison.context_value]);
    let values = values.filter(|y| y.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
    let pad = (0.12 * (high - low)).max(1e-4);
    Scale { most, low: (low - pad).max(0.0).min(low), high: high + pad, context: comparison.context_value }
}

/// `count` or so round values within the scale.
fn rounds(scale: &Scale, count: f64) -> Vec<f64> {
    let rough = (scale.high - scale.low) / count;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|step| *step >= rough).unwrap_or(rough);
    let first = (scale.low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|y| *y <= scale.high).collect()
}

fn axes(comparison: &Comparison, scale: &Scale) -> Markup {
    let digits = decimals(scale.high - scale.low);
    let mut last = f64::NEG_INFINITY;
    let ticks: Vec<f64> = TICKS
        .into_iter()
        .filter(|&tick| {
            let fits = tick <= scale.most && scale.x(tick) - last >= 44.0;
            if fits {
                last = scale.x(tick);
            }
            fits
        })
        .collect();
    let text = |x: f64, y: f64, anchor: &str, size: u32, words: String| {
        html! { text x=(px(x)) y=(px(y)) text-anchor=(anchor) font-size=(size) fill=(hex(MUTED)) { (words) } }
    };
    html! {
        (text(KL_END, TOP - 16.0, "end", 13, "KL, nats".into()))
        (text(LEFT - 8.0, TOP - 16.0, "end", 13, "gap closed".into()))
        @for y in rounds(scale, 7.0) {
            line x1=(LEFT) x2=(RIGHT) y1=(px(scale.y(y))) y2=(px(scale.y(y))) stroke=(hex(GRID)) {}
            (text(KL_END, scale.y(y) + 5.0, "end", 14, format!("{y:.digits$}")))
            @let closed = 1.0 - y / comparison.context_value;
            (text(LEFT - 8.0, scale.y(y) + 5.0, "end", 14, whole_percent(closed)))
        }
        line x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) stroke=(hex(AXIS)) {}
        @for tick in ticks {
            line x1=(px(scale.x(tick))) x2=(px(scale.x(tick))) y1=(BOTTOM) y2=(BOTTOM + 5.0) stroke=(hex(AXIS)) {}
            (text(scale.x(tick), BOTTOM + 22.0, "middle", 14, percent(tick).replace(".0 ", " ")))
        }
        (text((LEFT + RIGHT) / 2.0, BOTTOM + 48.0, "middle", 14, "kept of the prefix, as achieved (keep_ratio, square-root scale)".into()))
    }
}

/// Reference lines: the KL of the empty gist, and the bound where there is one.
fn references(comparison: &Comparison, scale: &Scale) -> Markup {
    let y = px(scale.y(comparison.context_value));
    let path = |points: &[[f64; 2]]| {
        let point = |p: &[f64; 2]| format!("{},{}", px(scale.x(p[0])), px(scale.y(p[1])));
        points.iter().map(point).collect::<Vec<_>>().join(" ")
    };
    html! {
        line x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) stroke=(hex(MUTED)) stroke-width="1.5" stroke-dasharray="2 5" {}
        text x=(LEFT + 6.0) y=(px(scale.y(comparison.context_value) - 7.0)) font-size="14" fill=(hex(MUTED)) {
            "nothing kept"
        }
        @if let Some(bound) = &comparison.bound {
            polyline class="bound" points=(path(bound)) fill="none" stroke=(hex(INK)) stroke-width="1.6" stroke-dasharray="7 5" {
                title { "least KL of any gist" }
            }
        }
    }
}

fn curve((index, count): (usize, usize), line: &Line, scale: &Scale) -> Markup {
    // Bars stand side by side, so that those of one budget do not hide each other.
    let aside = 2.4 * (index as f64 - (count as f64 - 1.0) / 2.0);
    let at = |p: &Point| (scale.x(p.keep_ratio), scale.y(p.kl));
    let path = line.points.iter().map(|p| at(p)).map(|(x, y)| format!("{},{}", px(x), px(y)));
    let path = path.collect::<Vec<_>>().join(" ");
    let thick = if line.trained { "3" } else { "1.6" };
    html! {
        g.series data-series=(index) {
            polyline points=(path) fill="none" stroke=(line.color) stroke-width=(thick) stroke-linejoin="round" {}
            @for point in &line.points {
                @let (x, y) = at(point);
                @let said = words(point);
                g.point tabindex="0" role="img" aria-label=(said) {
                    title { (said) }
                    @if point.gap_closed_ci95.iter().all(|bound| bound.is_finite()) {
                        @let [low, high] = point.gap_closed_ci95.map(|gap| px(scale.y(scale.context * (1.0 - gap))));
                        line x1=(px(x + aside)) x2=(px(x + aside)) y1=(low) y2=(high) stroke=(line.color) stroke-width="1.4"
                            stroke-opacity="0.55" {}
                    }
                    path d=(marker(line.marker, x, y)) fill=(line.color) stroke=(line.color) stroke-width="1.5" {}
                    circle cx=(px(x)) cy=(px(y)) r="11" fill="transparent" {}
                }
            }
        }
    }
}

/// Every line's name beside its last point, moved apart where they would touch.
fn names(lines: &[Line], scale: &Scale) -> Markup {
    let mut ends: Vec<(usize, f64, f64)> = (lines.iter().enumerate())
        .filter_map(|(i, line)| line.points.last().map(|p| (i, scale.x(p.keep_ratio), scale.y(p.kl))))
        .collect();
    ends.sort_by(|a, b| a.2.total_cmp(&b.2));
    let wanted: Vec<f64> = ends.iter().map(|end| end.2).collect();
    let places = apart(&wanted, LINE, (TOP, BOTTOM - 6.0));
    html! {
        @for ((i, x, y), place) in ends.into_iter().zip(places) {
            @let line = &lines[i];
            g.name data-series=(i) {
                line x1=(px(x + 8.0)) y1=(px(y)) x2=(RIGHT + 14.0) y2=(px(place)) stroke=(line.color) stroke-opacity="0.35" {}
                text x=(RIGHT + 18.0) y=(px(place + 5.0)) font-size="15" font-weight=(if line.trained { "bold" } else { "normal" })
                    fill=(line.color) { (short(line.name, f64::from(SIZE.0) - RIGHT - 20.0)) }
            }
        }
    }
}

fn whole_percent(share: f64) -> String {
    if share.is_finite() { format!("{} %", (100.0 * share).round() as i64) } else { "–".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let scale = Scale { most: 0.4, low: 0.211, high: 0.402, context: 0.4 };
        let found: Vec<String> = rounds(&scale, 7.0).iter().map(|y| format!("{y:.2}")).collect();
        assert_eq!(found, ["0.25", "0.30", "0.35", "0.40"]);
        assert_eq!(scale.x(0.0), LEFT);
        assert_eq!((scale.x(0.4), scale.y(0.402)), (RIGHT, TOP));
    }
}
