//! Lines of compressors in a drawing: colours, markers, and names that do not touch.

use crate::report::figure::{SERIES, hex, width};

/// Colours of baselines, after those of trained compressors.
const BASELINES: [&str; 9] =
    ["#C4576B", "#2A9D8F", "#A0692F", "#7A8B99", "#8A8F2D", "#B07AA1", "#3FA7C4", "#6B5B95", "#D4A017"];

/// Colours and markers, one after another.
#[derive(Default)]
pub(super) struct Palette {
    trained: usize,
    baselines: usize,
}

impl Palette {
    /// Colour and marker of the next compressor.
    pub fn next(&mut self, trained: bool) -> (String, usize) {
        let count = if trained { &mut self.trained } else { &mut self.baselines };
        *count += 1;
        match (trained, *count - 1) {
            (true, at) => (hex(SERIES[at % SERIES.len()]), 0),
            (false, at) => (BASELINES[at % BASELINES.len()].to_string(), 1 + at % 5),
        }
    }
}

/// A disc, a square, a triangle, a diamond, a cross or a dash around (x, y).
pub(super) fn marker(kind: usize, x: f64, y: f64) -> String {
    let (x, y) = (px(x), px(y));
    match kind {
        0 => format!("M{x} {y}m-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z"),
        1 => format!("M{x} {y}m-4 -4h8v8h-8z"),
        2 => format!("M{x} {y}m0 -5l5 9h-10z"),
        3 => format!("M{x} {y}m0 -5.5l5 5.5l-5 5.5l-5 -5.5z"),
        4 => format!("M{x} {y}m-4.5 -4.5l9 9m0 -9l-9 9"),
        _ => format!("M{x} {y}m-5 -2h10v4h-10z"),
    }
}

/// A name cut to so many pixels of text of 15.
pub(super) fn short(name: &str, room: f64) -> String {
    let fits = (1..=name.chars().count())
        .rev()
        .find(|n| f64::from(width(&name.chars().take(*n).collect::<String>(), 15)) <= room);
    match fits {
        Some(n) if n < name.chars().count() => name.chars().take(n - 1).chain(['…']).collect(),
        _ => name.into(),
    }
}

/// Ascending places as near to `wanted` (ascending) as can be with `gap` between them, within `range` if there is room.
pub(super) fn apart(wanted: &[f64], gap: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let mut places: Vec<f64> = Vec::with_capacity(wanted.len());
    for &place in wanted {
        places.push(places.last().map_or(place.max(low), |last| place.max(last + gap)));
    }
    let mut limit = high.max(low + gap * wanted.len().saturating_sub(1) as f64);
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - gap;
    }
    places
}

/// A coordinate with one decimal.
pub(super) fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_moved_apart_and_stay_inside() {
        assert_eq!(apart(&[10.0, 50.0], 20.0, (0.0, 100.0)), [10.0, 50.0]);
        assert_eq!(apart(&[10.0, 12.0, 13.0], 20.0, (0.0, 100.0)), [10.0, 30.0, 50.0]);
        assert_eq!(apart(&[80.0, 90.0, 99.0], 20.0, (0.0, 100.0)), [60.0, 80.0, 100.0]);
        assert!(apart(&[], 20.0, (0.0, 100.0)).is_empty());
        assert_eq!(apart(&[5.0; 4], 20.0, (0.0, 30.0)), [0.0, 20.0, 40.0, 60.0]);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(short("recent", 200.0), "recent");
        let cut = short(&"compressor".repeat(6), 200.0);
        assert!(cut.ends_with('…') && cut.chars().count() < 40, "{cut}");
    }
}
