//! A step's seconds over ranks, both by powers of two, beside what W ranks without any loss would take.

use crate::error::Result;
use crate::report::figure::{AXIS, Figure, GRID, INK, MUTED, SERIES, font, write};
use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 440);
/// Room for the title above, and for the labels at the other sides.
const TITLE: u32 = 56;
const LABELS: u32 = 62;

/// The curve of one run and link.
pub struct Curve {
    /// The link in words.
    pub link: String,
    /// Ranks and seconds of a step, the fewest ranks first.
    pub points: Vec<(usize, f64)>,
}

/// Draws a curve of at least one point.
pub fn figure(curve: &Curve) -> Result<Figure> {
    let title = "Seconds of a step over ranks, predicted";
    Figure::draw("scaling", title, SIZE, |area| {
        let (first, last) = (curve.points.first().copied(), curve.points.last().copied());
        let (Some((few, slow)), Some((many, _))) = (first, last) else { return Ok(()) };
        let ideal: Vec<(f64, f64)> =
            curve.points.iter().map(|&(ranks, _)| (ranks as f64, slow * few as f64 / ranks as f64)).collect();
        let lowest = ideal.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        write(area, title, (0, 0), 20, true, INK)?;
        write(area, &format!("link: {}; grey: no loss at all", curve.link), (0, 28), 15, false, MUTED)?;
        let (x, y) = ((few as f64..many.max(few + 1) as f64).log_scale(), (lowest * 0.8..slow * 1.25).log_scale());
        let mut chart = ChartBuilder::on(area)
            .margin_top(TITLE)
            .margin_right(24)
            .x_label_area_size(LABELS)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(x.base(2.0), y.base(2.0))?;
        (chart.configure_mesh())
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(AXIS)
            .label_style(font(15, false).color(&MUTED))
            .x_desc("ranks")
            .y_desc("seconds")
            .x_label_formatter(&|ranks| format!("{ranks:.0}"))
            .y_label_formatter(&|seconds| format!("{seconds:.2}"))
            .draw()?;
        chart.draw_series(LineSeries::new(ideal, AXIS.stroke_width(2)))?;
        let points: Vec<(f64, f64)> = curve.points.iter().map(|&(ranks, seconds)| (ranks as f64, seconds)).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), SERIES[0].stroke_width(3)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 5, SERIES[0].filled())))?;
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_point_a_number_of_ranks_and_the_link_in_words() {
        let points = vec![(1, 8.0), (2, 4.2), (4, 2.4)];
        let svg = figure(&Curve { link: "50 µs a message, 10 Gbit/s".into(), points }).unwrap().standalone();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("50 µs a message, 10 Gbit/s"));
        assert!(figure(&Curve { link: String::new(), points: vec![(1, 8.0)] }).is_ok());
    }
}
