//! Rollouts of a step as numbers, as ranks send them to one another: exact, since ids and counts are far below 2^53.

use crate::compressor::actions::Trajectory;
use crate::reading::Reading;
use crate::rollout::Group;
use crate::train::shards::Packed;

fn pack_list(list: impl ExactSizeIterator<Item = f64>, numbers: &mut Vec<f64>) {
    numbers.push(list.len() as f64);
    numbers.extend(list);
}

fn unpack_list(numbers: &mut impl Iterator<Item = f64>) -> Option<Vec<f64>> {
    let length = numbers.next()? as usize;
    let list: Vec<f64> = numbers.take(length).collect();
    (list.len() == length).then_some(list)
}

fn unpack_many<T: Packed>(numbers: &mut impl Iterator<Item = f64>) -> Option<Vec<T>> {
    let count = numbers.next()? as usize;
    (0..count).map(|_| T::unpack(numbers)).collect()
}

fn pack_many<T: Packed>(things: &[T], numbers: &mut Vec<f64>) {
    numbers.push(things.len() as f64);
    things.iter().for_each(|thing| thing.pack(numbers));
}

impl Packed for Trajectory {
    fn pack(&self, numbers: &mut Vec<f64>) {
        pack_list(self.ids.iter().map(|&id| f64::from(id)), numbers);
        pack_list(self.picks.iter().map(|&unit| unit as f64), numbers);
        numbers.push(f64::from(self.ended));
        pack_list(self.behavior_logprobs.iter().copied(), numbers);
        pack_list(self.entropy.iter().copied(), numbers);
    }

    fn unpack(numbers: &mut impl Iterator<Item = f64>) -> Option<Self> {
        Some(Self {
            ids: unpack_list(numbers)?.into_iter().map(|id| id as u32).collect(),
            picks: unpack_list(numbers)?.into_iter().map(|unit| unit as usize).collect(),
            ended: numbers.next()? == 1.0,
            behavior_logprobs: unpack_list(numbers)?,
            entropy: unpack_list(numbers)?,
        })
    }
}

impl Packed for Reading {
    fn pack(&self, numbers: &mut Vec<f64>) {
        numbers.extend([self.kl, self.nll, self.top1_agreement]);
    }

    fn unpack(numbers: &mut impl Iterator<Item = f64>) -> Option<Self> {
        Some(Self { kl: numbers.next()?, nll: numbers.next()?, top1_agreement: numbers.next()? })
    }
}

impl Packed for Group {
    fn pack(&self, numbers: &mut Vec<f64>) {
        numbers.push(self.prefix_tokens as f64);
        pack_many(&self.gists, numbers);
        pack_many(&self.readings, numbers);
        self.empty.pack(numbers);
        numbers.push(f64::from(self.recent.is_some()));
        if let Some((gist, reading)) = &self.recent {
            gist.pack(numbers);
            reading.pack(numbers);
        }
    }

    fn unpack(numbers: &mut impl Iterator<Item = f64>) -> Option<Self> {
        Some(Self {
            prefix_tokens: numbers.next()? as usize,
            gists: unpack_many(numbers)?,
            readings: unpack_many(numbers)?,
            empty: Reading::unpack(numbers)?,
            recent: match numbers.next()? == 1.0 {
                true => Some((Trajectory::unpack(numbers)?, Reading::unpack(numbers)?)),
                false => None,
            },
        })
    }
}

/// Credits of the gists of a window, by gist and block.
impl Packed for Vec<Vec<f64>> {
    fn pack(&self, numbers: &mut Vec<f64>) {
        numbers.push(self.len() as f64);
        self.iter().for_each(|gist| pack_list(gist.iter().copied(), numbers));
    }

    fn unpack(numbers: &mut impl Iterator<Item = f64>) -> Option<Self> {
        let count = numbers.next()? as usize;
        (0..count).map(|_| unpack_list(numbers)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let reading = |kl: f64| Reading { kl, nll: f64::NAN, top1_agreement: 1.0 / 3.0 };
        let gist = |ids: &[u32], ended: bool| Trajectory {
            ids: ids.to_vec(),
            picks: vec![ids.len(); 3],
            ended,
            behavior_logprobs: vec![-1e-300, f64::NEG_INFINITY],
            entropy: vec![0.1],
        };
        let group = |recent| Group {
            prefix_tokens: 7,
            gists: vec![gist(&[], true), gist(&[u32::MAX, 0], false)],
            readings: vec![reading(0.1 + 0.2), reading(-0.0)],
            empty: reading(1e-17),
            recent,
        };
        let groups = [group(None), group(Some((gist(&[5], true), reading(3.0))))];
        let credits = vec![vec![0.5], Vec::new(), vec![1.0, -2.0]];
        let mut numbers = Vec::new();
        groups.iter().for_each(|group| group.pack(&mut numbers));
        credits.pack(&mut numbers);
        let mut sent = numbers.clone().into_iter();
        let arrived = [Group::unpack(&mut sent).unwrap(), Group::unpack(&mut sent).unwrap()];
        assert_eq!(format!("{groups:?}"), format!("{arrived:?}"));
        assert_eq!(Vec::<Vec<f64>>::unpack(&mut sent), Some(credits));
        assert_eq!(sent.next(), None);
        assert!(Group::unpack(&mut numbers[..9].iter().copied()).is_none(), "torn");
    }
}
