//! From one advantage a gist to one an action. Uniform: every action of a gist, its end included, gets the gist's
//! advantage. Leave-one-out: the KL that a gist loses without each block of [`BLOCK`] tokens is added, centred over the
//! gist, so that the sum over its tokens stays what it was and the end keeps the gist's own advantage.

use crate::algo::advantage::AdvantageUnit;
use crate::compressor::actions::Trajectory;
use crate::tensor::mean;

/// Tokens that share one leave-one-out figure.
pub const BLOCK: usize = 4;

/// Advantages by window, gist and action. `credits`, if any: for each gist, what each of its blocks bought, in units of
/// the advantages.
pub fn per_action(
    advantages: &[Vec<f64>],
    groups: &[&[Trajectory]],
    credits: Option<&[Vec<Vec<f64>>]>,
) -> Vec<Vec<Vec<f64>>> {
    let spread = |w: usize, g: usize, gist: &Trajectory| {
        let mut actions = vec![advantages[w][g]; gist.actions()];
        if let Some(credits) = credits {
            let tokens: Vec<f64> = (0..gist.ids.len()).map(|t| credits[w][g][t / BLOCK]).collect();
            let centre = mean(&tokens);
            for (action, credit) in actions.iter_mut().zip(&tokens) {
                *action += credit - centre;
            }
        }
        actions
    };
    groups
        .iter()
        .enumerate()
        .map(|(w, group)| group.iter().enumerate().map(|(g, gist)| spread(w, g, gist)).collect())
        .collect()
}

/// Credits in units of the reward, as they join advantages: in the unit of each group's.
pub fn in_units(credits: Vec<Vec<Vec<f64>>>, units: &[AdvantageUnit]) -> Vec<Vec<Vec<f64>>> {
    let mut credits = credits;
    for (group, unit) in credits.iter_mut().zip(units) {
        group.iter_mut().flatten().for_each(|credit| *credit = unit.of_quality(*credit));
    }
    credits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_in_the_unit_of_the_advantages_that_they_join() {
        let credits = || vec![vec![vec![0.3, -0.1]]; 3];
        let deviations = AdvantageUnit::Deviations { quality: 0.1, length: 5.0 };
        let joined = in_units(credits(), &[AdvantageUnit::Reward, deviations, AdvantageUnit::NoSpread]);
        assert_eq!(joined[0], credits()[0]);
        assert!((joined[1][0][0] - 3.0).abs() < 1e-12 && (joined[1][0][1] + 1.0).abs() < 1e-12);
        assert_eq!(joined[2], vec![vec![0.0, 0.0]]);
    }

    #[test]
    fn credit_moves_advantage_between_tokens_and_leaves_the_sum_and_the_end() {
        let gist = Trajectory { ids: vec![0; 6], ended: true, ..Trajectory::default() };
        let groups: Vec<&[Trajectory]> = vec![std::slice::from_ref(&gist)];
        let uniform = per_action(&[vec![0.5]], &groups, None);
        assert_eq!(uniform[0][0], vec![0.5; 7]);
        let credited = per_action(&[vec![0.5]], &groups, Some(&[vec![vec![0.3, 0.0]]]));
        assert!((credited[0][0][..6].iter().sum::<f64>() - 3.0).abs() < 1e-12);
        assert!(credited[0][0][0] > 0.5 && credited[0][0][5] < 0.5);
        assert_eq!(credited[0][0][6], 0.5);
    }
}
