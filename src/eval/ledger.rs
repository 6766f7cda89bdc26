//! The ledger from rows of `windows.jsonl`, of one run or of several together.

use crate::eval::schema::ledger::{KlLedger, Level, Share};
use crate::eval::schema::windows::WindowRow;
use crate::eval::stats::Interval;

/// Sums over some windows, from which every figure of a ledger follows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    teacher: f64,
    unadapted: [f64; 2],
    empty: [f64; 2],
    gist: [f64; 2],
}

impl Sums {
    fn ke_over_kg(self) -> f64 {
        self.empty[0] / self.gist[0]
    }

    fn gap_closed(self) -> f64 {
        1.0 - self.gist[0] / self.empty[0]
    }

    fn nll_gap_closed(self) -> f64 {
        1.0 - (self.gist[1] - self.teacher) / (self.empty[1] - self.teacher)
    }
}

/// The levels of some windows.
pub struct Accounts {
    rows: Vec<Sums>,
    untrained: Option<Level>,
    recent: Option<Level>,
}

fn average(levels: &[Level]) -> Option<Level> {
    let n = levels.len() as f64;
    let of = |figure: fn(&Level) -> f64| levels.iter().map(figure).sum::<f64>() / n;
    (!levels.is_empty()).then(|| Level { kl: of(|l| l.kl), nll: of(|l| l.nll) })
}

impl Accounts {
    /// The accounts of `gist`, read by the run's generator, over rows; none where a row lacks it or the levels of the ledger,
    /// as those of older versions do.
    pub fn of<'a>(rows: impl Iterator<Item = &'a WindowRow>, gist: &str) -> Option<Self> {
        let (mut sums, mut untrained, mut recent) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let (levels, own) = (row.levels?, row.compressors.get(gist)?);
            untrained.extend(levels.untrained);
            recent.extend(row.compressors.get("recent").map(|r| Level { kl: r.kl, nll: r.nll }));
            sums.push(Sums {
                teacher: levels.teacher_nll,
                unadapted: [levels.unadapted.kl, levels.unadapted.nll],
                empty: [row.context_value_kl, levels.empty_nll],
                gist: [own.kl, own.nll],
            });
        }
        let all = |levels: Vec<Level>| average(&levels).filter(|_| levels.len() == sums.len());
        let (untrained, recent) = (all(untrained), all(recent));
        (!sums.is_empty()).then_some(Self { rows: sums, untrained, recent })
    }

    fn sums(&self, windows: impl Iterator<Item = usize>) -> Sums {
        let mut total = Sums::default();
        for row in windows.map(|window| self.rows[window]) {
            total.teacher += row.teacher;
            for (sum, own) in
                [(&mut total.unadapted, row.unadapted), (&mut total.empty, row.empty), (&mut total.gist, row.gist)]
            {
                sum[0] += own[0];
                sum[1] += own[1];
            }
        }
        total
    }

    /// The ledger, where `bootstrap` gives the interval of a statistic of indices of rows.
    pub fn ledger(&self, bootstrap: impl Fn(&(dyn Fn(&[usize]) -> f64 + Sync)) -> Interval) -> KlLedger {
        let (n, total) = (self.rows.len() as f64, self.sums(0..self.rows.len()));
        let level = |sums: [f64; 2]| Level { kl: sums[0] / n, nll: sums[1] / n };
        let share = |figure: fn(Sums) -> f64| {
            let found = bootstrap(&|windows: &[usize]| figure(self.sums(windows.iter().copied())));
            Share { mean: found.mean, ci95: found.ci95() }
        };
        KlLedger {
            teacher_nll: total.teacher / n,
            k_0: self.untrained,
            k_u: level(total.unadapted),
            k_e: level(total.empty),
            k_recent: self.recent,
            k_g: level(total.gist),
            ku_over_kg: total.unadapted[0] / total.gist[0],
            ke_over_kg: share(Sums::ke_over_kg),
            gap_closed: share(Sums::gap_closed),
            nll_gap_closed: share(Sums::nll_gap_closed),
            teacher_calibration: (total.empty[1] - total.teacher) / total.empty[0],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::eval::schema::ledger::WindowLevels;
    use crate::eval::schema::windows::WindowFigures;
    use crate::eval::stats;

    fn row(window: usize, [teacher, empty, gist]: [f64; 3], [ke, kg]: [f64; 2]) -> WindowRow {
        let figures = |kl, nll| WindowFigures { tokens: 3, kl, nll, kl_base: kl, kl_adapted: None };
        WindowRow {
            window,
            document: format!("d{window}"),
            source: None,
            context_value_kl: ke,
            levels: Some(WindowLevels {
                teacher_nll: teacher,
                untrained: Some(Level { kl: 1.0, nll: 4.0 }),
                unadapted: Level { kl: 2.0 * ke, nll: 5.0 },
                empty_nll: empty,
            }),
            compressors: [("gist".to_string(), figures(kg, gist))].into(),
        }
    }

    /// Figures of the audit: the teacher's NLL 2.7495, 3.0084 of a reader of nothing, a KL of 0.396, which is a calibration of
    /// 0.654; a gist that leaves NLL 2.924 closes 32.6 % of it.
    #[test]
    fn figures_follow_from_their_definitions() {
        let rows = [row(0, [2.7495, 3.0084, 2.924], [0.396, 0.31]), row(1, [2.7495, 3.0084, 2.924], [0.396, 0.31])];
        let accounts = Accounts::of(rows.iter(), "gist").unwrap();
        let found = accounts.ledger(|statistic| stats::bootstrap(&[0, 1], 100, 0, statistic));
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-3, "{got} {expected}");
        close(found.teacher_calibration, 0.6538);
        close(found.nll_gap_closed.mean, 0.3260);
        close(found.ke_over_kg.mean, 1.2774);
        close(found.ku_over_kg, 2.5548);
        close(found.gap_closed.mean, 0.2172);
        // Windows that are alike have no spread.
        close(found.ke_over_kg.ci95[0], found.ke_over_kg.ci95[1]);
        assert_eq!((found.k_0, found.k_recent), (Some(Level { kl: 1.0, nll: 4.0 }), None));
        close(found.k_e.nll, 3.0084);
    }

    #[test]
    fn rows_without_levels_have_no_ledger() {
        let mut old = row(0, [1.0, 2.0, 1.5], [0.5, 0.25]);
        assert!(Accounts::of([&old].into_iter(), "nobody").is_none());
        old.levels = None;
        assert!(Accounts::of([&old].into_iter(), "gist").is_none());
        assert!(Accounts::of(std::iter::empty(), "gist").is_none());
    }

    #[test]
    fn ratios_are_of_means() {
        let rows = [row(0, [1.0, 2.0, 1.5], [0.9, 0.03]), row(1, [1.0, 4.0, 1.5], [0.1, 0.07])];
        let found =
            Accounts::of(rows.iter(), "gist").unwrap().ledger(|statistic| stats::bootstrap(&[0, 1], 0, 0, statistic));
        assert!((found.ke_over_kg.mean - 10.0).abs() < 1e-9 && found.ke_over_kg.ci95[0].is_nan());
        assert!((found.nll_gap_closed.mean - 0.75).abs() < 1e-9);
    }
}
