//! The ledger as rows of a table and as a sentence. "Tenfold" is said of K_e/K_g alone.

use crate::eval::schema::ledger::{KlLedger, Level, Share};
use crate::report::format::{nats, percent, percent_ci};

/// Title of the ledger's table.
pub const TITLE: &str = "Ledger: from teacher to reader, nats per token";
/// Column heads.
pub const HEAD: [&str; 3] = ["reader and what it has read", "KL", "NLL of the true future"];

/// The rows, from the untrained pair to the gist; those that were not measured are left out.
pub fn rows(ledger: &KlLedger) -> Vec<[String; 3]> {
    let teacher = Level { kl: 0.0, nll: ledger.teacher_nll };
    let levels = [
        ("K_0: the untrained pair", ledger.k_0),
        ("K_u: bare base, nothing", Some(ledger.k_u)),
        ("K_e: adapted reader, nothing", Some(ledger.k_e)),
        ("K_recent: generator, recent tokens", ledger.k_recent),
        ("K_g: generator, gist", Some(ledger.k_g)),
        ("teacher, the whole prefix", Some(teacher)),
    ];
    let row = |(name, level): (&str, Option<Level>)| level.map(|l| [name.into(), nats(l.kl), nats(l.nll)]);
    levels.into_iter().filter_map(row).collect()
}

fn times(share: Share) -> String {
    match share.ci95 {
        [low, high] if low.is_finite() && high.is_finite() => format!("{:.2} [{low:.2}, {high:.2}]", share.mean),
        _ => format!("{:.2}", share.mean),
    }
}

/// K_e/K_g with its interval.
pub fn ratio(ledger: &KlLedger) -> String {
    format!("K_e/K_g {}", times(ledger.ke_over_kg))
}

/// The ratios, in one line.
pub fn sentence(ledger: &KlLedger) -> String {
    format!(
        "{} · K_u/K_g {:.2} · gap closed {} by KL, {} by the NLL of the true future · teacher calibration {}",
        ratio(ledger),
        ledger.ku_over_kg,
        percent_ci(ledger.gap_closed.mean, ledger.gap_closed.ci95),
        percent_ci(ledger.nll_gap_closed.mean, ledger.nll_gap_closed.ci95),
        percent(ledger.teacher_calibration)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn every_level_has_its_row_and_the_ratio_its_interval() {
        let found = fixture::ledger();
        let shown = rows(&found);
        assert_eq!(shown.len(), 6);
        assert_eq!(shown[2], ["K_e: adapted reader, nothing", "0.2134", "2.5604"]);
        assert!(
            sentence(&found).starts_with("K_e/K_g 1.89 [1.84, 1.94] · K_u/K_g 2.27 · gap closed 47.1 % [42.1, 52.1]")
        );
        let fewer = rows(&KlLedger { k_0: None, k_recent: None, ..found });
        assert_eq!(fewer.len(), 4);
    }
}
