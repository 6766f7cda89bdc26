//! Learning curves as small multiples: every step faint, a centred moving average bold.

use plotters::prelude::*;

use crate::error::Result;
use crate::report::data::RunData;
use crate::report::figure::{AXIS, Area, Figure, GRID, INK, MUTED, SERIES, font, width, write};
use crate::report::format::{decimals, percent};

/// Pixels of one panel; twice what the page shows, since coordinates are whole numbers.
pub const PANEL: (u32, u32) = (760, 480);
const MAX_POINTS: usize = 160;

/// One panel of learning curves.
struct Spec {
    name: &'static str,
    title: &'static str,
    percent: bool,
    series: &'static [(&'static str, &'static str)],
}

const fn spec(
    name: &'static str,
    title: &'static str,
    percent: bool,
    series: &'static [(&'static str, &'static str)],
) -> Spec {
    Spec { name, title, percent, series }
}

const LEARNING: [Spec; 16] = [
    spec(
        "gap-closed",
        "Gap closed, validation",
        true,
        &[("eval/gap_closed", "greedy gist"), ("eval/gap_closed_recent", "recent tokens")],
    ),
    spec(
        "kl-validation",
        "KL to the teacher, validation, nats",
        false,
        &[("eval/kl", "greedy gist"), ("eval/kl_empty", "empty gist"), ("eval/context_value", "context value")],
    ),
    spec(
        "kl",
        "KL to the teacher, training, nats",
        false,
        &[
            ("rollout/kl", "samples"),
            ("rollout/kl_empty", "empty"),
            ("generator/kl", "mix"),
            ("empty_reader/kl", "adapted to empty"),
        ],
    ),
    spec(
        "reward",
        "Reward and its parts",
        false,
        &[
            ("reward/total", "total"),
            ("reward/quality", "quality"),
            ("reward/length", "length"),
            ("reward/recent", "recent tokens, total"),
        ],
    ),
    spec(
        "keep-ratio",
        "Kept of the prefix, keep_ratio",
        true,
        &[("rollout/keep_ratio", "samples"), ("eval/keep_ratio", "greedy, validation")],
    ),
    spec("entropy", "Entropy of the compressor, nats per token", false, &[("rollout/entropy", "")]),
    spec("group-std", "Spread of rewards within a group", false, &[("rollout/group_std", "standard deviation")]),
    spec("lambda", "Price of length, λ", false, &[("algo/lambda", "")]),
    spec(
        "grad-norm",
        "Gradient norm",
        false,
        &[
            ("optim/compressor/grad_norm", "compressor"),
            ("optim/generator/grad_norm", "generator"),
            ("optim/grad_norm", "base"),
        ],
    ),
    spec("mismatch", "Mismatch KL, sampling against training", false, &[("algo/mismatch_kl", "")]),
    spec("kl-reference", "KL to the warm-start policy", false, &[("algo/kl_reference", "")]),
    spec("imitation", "Warm start: imitation loss, nats per token", false, &[("warm_start/imitation_loss", "")]),
    spec(
        "pairs",
        "Pairs: loss, nats per token",
        false,
        &[("warm_start/pair_loss", "training"), ("warm_start/pair_valid_loss", "held out")],
    ),
    spec("loss", "Loss, nats per token", false, &[("train/loss", "training"), ("eval/loss", "held out")]),
    spec(
        "induction",
        "Loss on a repeated random sequence",
        false,
        &[("eval/induction_first", "first copy"), ("eval/induction_second", "second copy")],
    ),
    spec("learning-rate", "Learning rate", false, &[("optim/lr", "")]),
];

const RETENTION: [Spec; 4] = [
    spec(
        "kept",
        "Kept of the prefix",
        true,
        &[
            ("text/names_kept", "names"),
            ("text/numbers_kept", "numbers"),
            ("text/identifiers_kept", "identifiers"),
            ("text/answers_kept", "answers"),
        ],
    ),
    spec(
        "copied",
        "Tokens of the gist",
        true,
        &[("text/copied", "copied from the prefix"), ("text/type_token", "distinct")],
    ),
    spec(
        "function-words",
        "Function words among the words",
        true,
        &[("text/function_words", "of the gist"), ("text/prefix_function_words", "of the prefix")],
    ),
    spec(
        "script",
        "Characters of the gist",
        true,
        &[
            ("text/punctuation_density", "punctuation"),
            ("text/prefix_punctuation_density", "the prefix's"),
            ("text/non_latin_share", "not Latin"),
        ],
    ),
];

/// One series ready to draw.
struct Line {
    label: String,
    raw: Vec<(f64, f64)>,
    smooth: Vec<(f64, f64)>,
    color: RGBColor,
}

/// One panel ready to draw.
pub struct Panel {
    name: String,
    title: String,
    percent: bool,
    lines: Vec<Line>,
    /// A level to compare with, such as the budget.
    mark: Option<f64>,
    /// The step at which co-training takes over from the warm start.
    divide: Option<f64>,
}

/// The panels of training itself; a panel with no data, or with nothing but zeros, is left out.
pub fn learning(run: &RunData) -> Vec<Panel> {
    let says = |panel: &Panel| panel.lines.iter().flat_map(|line| &line.raw).any(|(_, value)| *value != 0.0);
    LEARNING.iter().filter_map(|spec| panel(run, spec)).filter(says).collect()
}

/// The panels of what the gist keeps of the text.
pub fn retention(run: &RunData) -> Vec<Panel> {
    RETENTION.iter().filter_map(|spec| panel(run, spec)).collect()
}

/// A panel for every metric that no other panel shows.
pub fn others(run: &RunData) -> Vec<Panel> {
    let shown =
        |key: &str| LEARNING.iter().chain(&RETENTION).any(|spec| spec.series.iter().any(|(name, _)| *name == key));
    let rest = run.keys().into_iter().filter(|key| !shown(key));
    rest.map(|key| Panel {
        name: key.replace('/', "-"),
        title: key.into(),
        percent: false,
        lines: vec![line(run.series(key), "", SERIES[0])],
        mark: None,
        divide: rl_begins(run),
    })
    .collect()
}

fn panel(run: &RunData, spec: &Spec) -> Option<Panel> {
    let lines: Vec<Line> = spec
        .series
        .iter()
        .zip(SERIES)
        .map(|((key, label), color)| line(run.series(key), label, color))
        .filter(|line| !line.raw.is_empty())
        .collect();
    let budget = |s: &crate::eval::schema::summary::Summary| s.budget_tokens as f64 / s.windows.prefix as f64;
    let mark = (spec.name == "keep-ratio").then(|| run.summary.as_ref().map(budget)).flatten();
    (!lines.is_empty()).then(|| Panel {
        name: spec.name.into(),
        title: spec.title.into(),
        percent: spec.percent,
        lines,
        mark,
        divide: rl_begins(run),
    })
}

/// The first step with a reward, when steps without came before.
pub fn rl_begins(run: &RunData) -> Option<f64> {
    let at = run.metrics.iter().position(|row| row.values.contains_key("reward/total"))?;
    (at > 0).then(|| run.metrics[at].step as f64)
}

fn line(points: Vec<(f64, f64)>, label: &str, color: RGBColor) -> Line {
    let smooth = thin(&moving_average(&points));
    Line { label: label.into(), raw: thin(&points), smooth, color }
}

/// Centred mean over about a twenty-fifth of the series; short series stay as they are.
fn moving_average(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() / 50).min(50);
    (0..points.len())
        .map(|at| {
            let near = &points[at.saturating_sub(reach)..(at + reach + 1).min(points.len())];
            (points[at].0, near.iter().map(|p| p.1).sum::<f64>() / near.len() as f64)
        })
        .collect()
}

/// About `MAX_POINTS` of the points at most, evenly spaced, always with the first and the last.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stride = points.len().div_ceil(MAX_POINTS).max(1);
    let mut kept: Vec<_> = points.iter().step_by(stride).copied().collect();
    kept.extend(points.last().filter(|last| kept.last() != Some(last)));
    kept
}

/// Range of the vertical axis: every average, and all but the outermost 2 % of raw points on either side.
fn vertical_range(panel: &Panel) -> (f64, f64) {
    let mut values: Vec<f64> =
        panel.lines.iter().flat_map(|l| l.smooth.iter().map(|p| p.1)).chain(panel.mark).collect();
    for line in &panel.lines {
        let mut raw: Vec<f64> = line.raw.iter().map(|p| p.1).collect();
        raw.sort_by(f64::total_cmp);
        let cut = raw.len() / 50;
        values.extend([raw[cut], raw[raw.len() - 1 - cut]]);
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Averages of equal values differ in their last bits.
    let constant = high - low <= 1e-9 * high.abs().max(low.abs());
    let pad = if constant { (0.1 * high.abs()).max(1e-3) } else { 0.06 * (high - low) };
    (low - pad, high + pad)
}

impl Panel {
    /// The panel as a figure of its own.
    pub fn figure(&self) -> Result<Figure> {
        Figure::draw(&self.name, &self.title, PANEL, |area| self.paint(area))
    }

    fn paint(&self, area: &Area) -> std::result::Result<(), Box<dyn std::error::Error>> {
        write(area, &self.title, (18, 12), 25, true, INK)?;
        self.legend(area)?;
        let (low, high) = vertical_range(self);
        let steps = self.lines.iter().flat_map(|l| l.raw.iter().map(|p| p.0));
        let (first, last) = steps.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let last = if last > first { last } else { first + 1.0 };
        let digits = decimals(if self.percent { 100.0 } else { 1.0 } * (high - low));
        let number = |y: &f64| match self.percent {
            true => format!("{:.digits$} %", 100.0 * y, digits = digits.min(2)),
            false if digits > 4 && *y != 0.0 && y.abs() < 0.01 => format!("{y:.1e}"),
            false => format!("{y:.digits$}"),
        };
        let step = |x: &f64| if last >= 20_000.0 { format!("{}k", x / 1000.0) } else { format!("{x}") };
        let mut chart = ChartBuilder::on(area)
            .margin_top(92)
            .margin_right(22)
            .margin_left(6)
            .x_label_area_size(44)
            .y_label_area_size(92)
            .build_cartesian_2d(first..last, low..high)?;
        let label = font(20, false).color(&MUTED);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(AXIS.stroke_width(2))
            .label_style(label)
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&step)
            .y_label_formatter(&number)
            .draw()?;
        if let Some(mark) = self.mark {
            chart.draw_series(DashedLineSeries::new([(first, mark), (last, mark)], 8, 8, MUTED.stroke_width(2)))?;
        }
        if let Some(divide) = self.divide.filter(|x| first < *x && *x < last) {
            chart.draw_series(DashedLineSeries::new([(divide, low), (divide, high)], 4, 8, AXIS.stroke_width(2)))?;
        }
        for line in &self.lines {
            let inside = line.raw.iter().filter(|(_, y)| (low..=high).contains(y));
            let few = line.raw.len() <= 40;
            let dot = if few { line.color.filled() } else { line.color.mix(0.28).filled() };
            chart.draw_series(inside.map(|&point| Circle::new(point, if few { 5 } else { 3 }, dot)))?;
        }
        for line in &self.lines {
            chart.draw_series(LineSeries::new(line.smooth.iter().copied(), line.color.stroke_width(4)))?;
        }
        Ok(())
    }

    fn legend(&self, area: &Area) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let mut x = 18;
        let named = self.lines.iter().map(|line| (line.label.clone(), line.color));
        let mark = self.mark.map(|mark| (format!("budget {}", percent(mark)), MUTED));
        for (label, color) in named.chain(mark).filter(|(label, _)| !label.is_empty()) {
            area.draw(&Rectangle::new([(x, 54), (x + 22, 59)], color.filled()))?;
            write(area, &label, (x + 30, 46), 20, false, MUTED)?;
            x += 30 + width(&label, 20) + 24;
        }
        Ok(())
    }
}

/// All panels in one drawing, `columns` wide; nothing when there is none.
pub fn grid(name: &str, title: &str, panels: &[Panel], columns: usize) -> Result<Option<Figure>> {
    if panels.is_empty() {
        return Ok(None);
    }
    let columns = columns.min(panels.len());
    let rows = panels.len().div_ceil(columns);
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
    let figure = Figure::draw(name, title, size, |area| {
        area.split_evenly((rows, columns)).iter().zip(panels).try_for_each(|(part, panel)| panel.paint(part))
    })?;
    Ok(Some(figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_average_keeps_a_line_and_tames_noise() {
        let straight: Vec<(f64, f64)> = (0..500).map(|i| (f64::from(i), 3.0 * f64::from(i))).collect();
        let smooth = moving_average(&straight);
        assert!(smooth[20..480].iter().zip(&straight[20..480]).all(|(a, b)| (a.1 - b.1).abs() < 1e-9));
        let noisy: Vec<(f64, f64)> = (0..500).map(|i| (f64::from(i), if i % 2 == 0 { 1.0 } else { -1.0 })).collect();
        assert!(moving_average(&noisy)[20..480].iter().all(|p| p.1.abs() < 0.1));
        assert_eq!(moving_average(&straight[..9]), &straight[..9]);
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<(f64, f64)> = (0..5003).map(|i| (f64::from(i), 0.0)).collect();
        let kept = thin(&points);
        assert!(kept.len() <= MAX_POINTS && kept.len() > MAX_POINTS / 2 && kept.last() == points.last());
        assert_eq!(kept[0], points[0]);
        assert_eq!(thin(&points[..7]), &points[..7]);
        assert!(thin(&[]).is_empty());
    }

    fn panel_of(raw: Vec<(f64, f64)>) -> Panel {
        let lines = vec![line(raw, "", SERIES[0])];
        Panel { name: "x".into(), title: "x".into(), percent: false, lines, mark: None, divide: None }
    }

    #[test]
    fn a_spike_among_raw_points_does_not_set_the_scale() {
        let raw = (0..2000).map(|i| (f64::from(i), if i == 999 { 1e6 } else { f64::from(i % 7) })).collect();
        let mut panel = panel_of(raw);
        panel.lines[0].smooth.clear();
        assert!(vertical_range(&panel).1 < 10.0);
    }

    #[test]
    fn a_constant_is_drawn_as_one() {
        let panel = panel_of((0..600).map(|i| (f64::from(i), 0.2)).collect());
        assert!(panel.lines[0].smooth.iter().any(|p| p.1 != 0.2), "the average is inexact");
        let (low, high) = vertical_range(&panel);
        assert!((low - 0.18).abs() < 1e-6 && (high - 0.22).abs() < 1e-6, "{low} {high}");
    }
}
