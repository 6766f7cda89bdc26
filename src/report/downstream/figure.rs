//! The figure: F1 over the tokens of context that the model read, a line a compressor; the whole context and the closed book are
//! levels. Drawn as SVG by hand, so that every point can be pointed at.

use maud::{Markup, html};

use crate::error::Result;
use crate::eval::task::downstream::IDENTITY;
use crate::eval::task::figures::DownstreamFigures;
use crate::report::figure::{AXIS, Figure, GRID, MUTED, hex};
use crate::report::format::{percent, percent_ci, thousands};
use crate::report::lines::{Palette, apart, marker, px, short};

const SIZE: (u32, u32) = (1080, 560);
const LEFT: f64 = 76.0;
const RIGHT: f64 = 858.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 496.0;
/// Distance between the names at the right.
const LINE: f64 = 20.0;

/// Layout of the plot, in pixels.
struct Axes {
    most: f64,
    high: f64,
}

impl Axes {
    fn x(&self, tokens: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (tokens / self.most).clamp(0.0, 1.0)
    }

    fn y(&self, f1: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (f1 / self.high).clamp(0.0, 1.0)
    }
}

/// One compressor's points, by tokens read.
struct Curve<'a> {
    name: &'a str,
    color: String,
    marker: usize,
    points: Vec<&'a DownstreamFigures>,
}

fn found(figures: &[DownstreamFigures]) -> Vec<Curve<'_>> {
    let mut palette = Palette::default();
    let mut curves: Vec<Curve> = Vec::new();
    for own in figures.iter().filter(|own| own.compressor != IDENTITY) {
        match curves.iter_mut().find(|curve| curve.name == own.compressor) {
            Some(curve) => curve.points.push(own),
            None => {
                let (color, marker) = palette.next(own.trained);
                curves.push(Curve { name: &own.compressor, color, marker, points: vec![own] });
            }
        }
    }
    curves.iter_mut().for_each(|curve| curve.points.sort_by(|a, b| a.context_tokens.total_cmp(&b.context_tokens)));
    curves
}

/// Tooltip of a point.
fn words(own: &DownstreamFigures) -> String {
    format!(
        "{}: {} tokens read ({} kept), F1 {}, gap closed {}",
        own.compressor,
        thousands(own.context_tokens.round() as usize),
        percent(own.keep_ratio_micro),
        percent_ci(own.compressed_f1.mean, own.compressed_f1.ci95),
        percent_ci(own.gap_closed.mean, own.gap_closed.ci95)
    )
}

/// The figure; nothing where no compressor took part.
pub fn curves(figures: &[DownstreamFigures]) -> Result<Option<Figure>> {
    let curves = found(figures);
    let Some(first) = curves.first().and_then(|curve| curve.points.first()) else { return Ok(None) };
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let upper = |own: &DownstreamFigures| own.compressed_f1.ci95[1].max(own.compressed_f1.mean);
    let levels = [first.full_f1.mean, first.closed_f1.mean];
    let high = points().map(|own| upper(own)).chain(levels).filter(|y| y.is_finite()).fold(0.05, f64::max);
    let most = 1.06 * points().map(|own| own.context_tokens).fold(1.0, f64::max);
    let axes = Axes { most, high: (1.06 * high).min(1.0) };
    let title = "F1 over the tokens of context that the model read";
    let svg = html! {
        svg width=(SIZE.0) height=(SIZE.1) viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1))
            xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" {
            (grid(&axes))
            (level(&axes, levels[0], "the whole context"))
            (level(&axes, levels[1], "closed book"))
            @for (index, curve) in curves.iter().enumerate() { (line(&axes, curve, index, curves.len())) }
            (names(&axes, &curves))
        }
    };
    Ok(Some(Figure::from_svg("f1-by-tokens", title, SIZE, svg.into_string())))
}

fn label(x: f64, y: f64, anchor: &str, words: String) -> Markup {
    html! { text x=(px(x)) y=(px(y)) text-anchor=(anchor) font-size="14" fill=(hex(MUTED)) { (words) } }
}

fn grid(axes: &Axes) -> Markup {
    let step = [0.02, 0.05, 0.1, 0.2].into_iter().find(|step| axes.high / step <= 7.0).unwrap_or(0.2);
    let shares = (0..).map(|at| f64::from(at) * step).take_while(|y| *y <= axes.high);
    let rough = axes.most / 6.0;
    let unit = 10f64.powf(rough.log10().floor());
    let tick =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|tick| *tick >= rough).unwrap_or(rough).max(1.0);
    let ticks = (0..).map(|at| f64::from(at) * tick).take_while(|x| *x <= axes.most);
    html! {
        (label(LEFT - 8.0, TOP - 16.0, "end", "F1".into()))
        @for y in shares {
            line x1=(LEFT) x2=(RIGHT) y1=(px(axes.y(y))) y2=(px(axes.y(y))) stroke=(hex(GRID)) {}
            (label(LEFT - 8.0, axes.y(y) + 5.0, "end", percent(y).replace(".0 ", " ")))
        }
        line x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) stroke=(hex(AXIS)) {}
        @for x in ticks {
            line x1=(px(axes.x(x))) x2=(px(axes.x(x))) y1=(BOTTOM) y2=(BOTTOM + 5.0) stroke=(hex(AXIS)) {}
            (label(axes.x(x), BOTTOM + 22.0, "middle", thousands(x.round() as usize)))
        }
        (label((LEFT + RIGHT) / 2.0, BOTTOM + 48.0, "middle", "tokens of context read, mean of an example".into()))
    }
}

/// A level that no compressor is on.
fn level(axes: &Axes, f1: f64, name: &str) -> Markup {
    let y = axes.y(f1);
    html! {
        line x1=(LEFT) x2=(RIGHT) y1=(px(y)) y2=(px(y)) stroke=(hex(MUTED)) stroke-width="1.5" stroke-dasharray="2 5" {}
        (label(LEFT + 6.0, y - 7.0, "start", format!("{name}, {}", percent(f1))))
    }
}

fn line(axes: &Axes, curve: &Curve, index: usize, count: usize) -> Markup {
    // Bars stand side by side, so that those of one budget do not hide each other.
    let aside = 2.4 * (index as f64 - (count as f64 - 1.0) / 2.0);
    let at = |own: &DownstreamFigures| (axes.x(own.context_tokens), axes.y(own.compressed_f1.mean));
    let path: Vec<String> =
        curve.points.iter().map(|own| at(own)).map(|(x, y)| format!("{},{}", px(x), px(y))).collect();
    html! {
        g.series data-series=(index) {
            polyline points=(path.join(" ")) fill="none" stroke=(curve.color) stroke-width="2" stroke-linejoin="round" {}
            @for own in &curve.points {
                @let (x, y) = at(own);
                @let said = words(own);
                g.point tabindex="0" role="img" aria-label=(said) {
                    title { (said) }
                    @if own.compressed_f1.ci95.iter().all(|bound| bound.is_finite()) {
                        @let [low, high] = own.compressed_f1.ci95.map(|f1| px(axes.y(f1)));
                        line x1=(px(x + aside)) x2=(px(x + aside)) y1=(low) y2=(high) stroke=(curve.color) stroke-width="1.4"
                            stroke-opacity="0.55" {}
                    }
                    path d=(marker(curve.marker, x, y)) fill=(curve.color) stroke=(curve.color) stroke-width="1.5" {}
                    circle cx=(px(x)) cy=(px(y)) r="11" fill="transparent" {}
                }
            }
        }
    }
}

/// Every line's name beside its last point, moved apart where they would touch.
fn names(axes: &Axes, curves: &[Curve]) -> Markup {
    let last = |curve: &Curve| {
        curve.points.last().map_or((0.0, 0.0), |own| (axes.x(own.context_tokens), axes.y(own.compressed_f1.mean)))
    };
    let mut ends: Vec<(&Curve, f64, f64)> =
        (curves.iter()).map(|curve| (curve, last(curve).0, last(curve).1)).collect();
    ends.sort_by(|a, b| a.2.total_cmp(&b.2));
    let wanted: Vec<f64> = ends.iter().map(|end| end.2).collect();
    let places = apart(&wanted, LINE, (TOP, BOTTOM - 6.0));
    html! {
        @for ((curve, x, y), place) in ends.into_iter().zip(places) {
            line x1=(px(x + 8.0)) y1=(px(y)) x2=(RIGHT + 14.0) y2=(px(place)) stroke=(curve.color) stroke-opacity="0.35" {}
            text x=(RIGHT + 18.0) y=(px(place + 5.0)) font-size="15" fill=(curve.color) {
                (short(curve.name, f64::from(SIZE.0) - RIGHT - 20.0))
            }
        }
    }
}
