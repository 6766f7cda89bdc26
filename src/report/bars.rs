//! The comparison chart: gap_closed of every compressor as a bar with its interval, grouped by what it is.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::Result;
use crate::eval::schema::summary::{Role, Summary};
use crate::report::figure::{AXIS, Area, Figure, GRID, INK, MUTED, PLAIN, SERIES, WARNING, font, write};
use crate::report::format::{percent, percent_ci};
use crate::report::table::{TableRow, rows};

const WIDTH: i32 = 1080;
const LEFT: i32 = 236;
const RIGHT: i32 = WIDTH - 196;
const ROW: i32 = 32;
const HEAD: i32 = 40;
const GROUPS: [(Role, &str); 5] = [
    (Role::Contestant, "Within the budget"),
    (Role::Search, "Found by many trial readings of imagined futures"),
    (Role::Hindsight, "Chosen with the future in sight"),
    (Role::Reference, "End points"),
    (Role::LeakControl, "Leak controls, which should not help"),
];

/// The chart of one reader, `None` when nothing was evaluated.
pub fn comparison(summary: &Summary, reader: &str) -> Result<Option<Figure>> {
    let entries =
        if reader == "generator" { Some(&summary.eval.compressors) } else { summary.eval.readers.get(reader) };
    let rows = entries.map(|entries| rows(summary, entries)).unwrap_or_default();
    let groups: Vec<(&str, Vec<&TableRow>)> = GROUPS
        .iter()
        .map(|(role, title)| (*title, rows.iter().filter(|row| row.role == *role).collect()))
        .filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty())
        .collect();
    if groups.is_empty() {
        return Ok(None);
    }
    let height = groups.iter().map(|(_, rows)| HEAD + ROW * rows.len() as i32).sum::<i32>() + 56;
    let name = if reader == "generator" { "comparison".to_string() } else { format!("comparison-{reader}") };
    let title = "Share of the gap closed by each compressor, with 95 % intervals";
    Figure::draw(&name, title, (WIDTH as u32, height as u32), |area| paint(area, &groups, height)).map(Some)
}

/// Gap closed → pixel; what is worse than `low` is cut there, its number still tells.
struct Scale {
    low: f64,
}

impl Scale {
    fn x(&self, share: f64) -> i32 {
        let at = (share.clamp(self.low, 1.05) - self.low) / (1.05 - self.low);
        LEFT + (at * f64::from(RIGHT - LEFT)).round() as i32
    }
}

fn paint(
    area: &Area,
    groups: &[(&str, Vec<&TableRow>)],
    height: i32,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let all = groups.iter().flat_map(|(_, rows)| rows.iter());
    let lowest = all.flat_map(|row| [row.entry.gap_closed, row.entry.gap_closed_ci95[0]]);
    let scale = Scale { low: lowest.filter(|x| x.is_finite()).fold(-0.04, f64::min).max(-0.5) };
    let bottom = height - 40;
    for tick in (-5..=10).map(|tenth| f64::from(tenth) / 10.0).filter(|tick| *tick >= scale.low) {
        let (x, zero) = (scale.x(tick), tick == 0.0);
        let style = if zero { AXIS.stroke_width(2) } else { GRID.stroke_width(1) };
        area.draw(&PathElement::new([(x, 8), (x, bottom)], style))?;
        if (tick * 10.0).round() as i32 % 2 == 0 {
            let label = percent(tick).replace(".0", "");
            let centred = font(13, false).color(&MUTED).pos(Pos::new(HPos::Center, VPos::Top));
            area.draw(&Text::new(label, (x, bottom + 8), centred))?;
        }
    }
    let mut y = 8;
    for (title, rows) in groups {
        write(area, title, (0, y + 12), 13, false, MUTED)?;
        y += HEAD;
        for row in rows {
            bar(area, row, y, &scale)?;
            y += ROW;
        }
    }
    Ok(())
}

fn bar(area: &Area, row: &TableRow, y: i32, scale: &Scale) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let gist = row.name.starts_with("gist") && row.role == Role::Contestant;
    let color = match row.role {
        Role::Contestant if gist => SERIES[0],
        Role::Contestant | Role::Reference => PLAIN,
        Role::Search => SERIES[2],
        Role::Hindsight => SERIES[1],
        Role::LeakControl => WARNING,
    };
    write(area, row.name, (14, y + 4), 16, gist, INK)?;
    let e = row.entry;
    if e.gap_closed.is_finite() {
        let (zero, end) = (scale.x(0.0), scale.x(e.gap_closed));
        area.draw(&Rectangle::new([(zero.min(end), y + 3), (zero.max(end), y + 21)], color.filled()))?;
        if let [low, high] = e.gap_closed_ci95.map(|bound| scale.x(bound))
            && e.gap_closed_ci95.iter().all(|bound| bound.is_finite())
        {
            for path in
                [[(low, y + 12), (high, y + 12)], [(low, y + 7), (low, y + 17)], [(high, y + 7), (high, y + 17)]]
            {
                area.draw(&PathElement::new(path, INK.stroke_width(2)))?;
            }
        }
    }
    write(area, &percent_ci(e.gap_closed, e.gap_closed_ci95), (RIGHT + 16, y + 5), 15, gist, INK)
}
