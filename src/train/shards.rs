//! Gradient shards: a step's windows cut into S contiguous stretches, each computed by itself, so that no shape depends on how
//! many processes share the step. Gradients are un-normalised sums, over denominators of the whole step, and are added in a
//! fixed tree ([`crate::parallel::tree`]); clipping comes after the sum. One shard is the step as it is without any.

use crate::error::{Error, Result};
use crate::metrics::{Metrics, ShardSeconds};
use crate::parallel::ranks::Ranks;
use crate::parallel::tree::{TreeSum, own};
use crate::rng::{self, Stream};
use crate::train::trainee::Trainee;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

/// The shards of a run's steps.
#[derive(Clone)]
pub struct Shards<'a> {
    /// Seed of the run.
    run_seed: u64,
    /// S.
    count: usize,
    /// The ranks that share them; none for a run of one process.
    group: Option<&'a Ranks>,
    /// Seconds so far of this step; the last list is of the stretch in progress. None where steps are whole.
    clock: Option<Rc<RefCell<ShardSeconds>>>,
}

/// A thing as numbers, to be sent to other ranks.
pub trait Packed: Sized {
    /// Adds the numbers of this thing.
    fn pack(&self, numbers: &mut Vec<f64>);

    /// Takes the numbers of one thing; none if there are too few.
    fn unpack(numbers: &mut impl Iterator<Item = f64>) -> Option<Self>;
}

/// One pass of an update over all shards.
#[derive(Clone, Copy)]
pub struct ShardedPass<'a> {
    shards: &'a Shards<'a>,
    number: u64,
}

impl<'a> Shards<'a> {
    /// Steps in one piece.
    pub const WHOLE: Self = Self { run_seed: 0, count: 1, group: None, clock: None };

    /// Steps of a run in `count` shards, a power of two.
    pub fn new(run_seed: u64, count: usize) -> Self {
        Self { run_seed, count, group: None, clock: (count > 1).then(Rc::default) }
    }

    /// These shards, shared with the other ranks of a group.
    pub fn shared(self, group: &'a Ranks) -> Self {
        Self { group: Some(group), ..self }
    }

    /// The ranks that share them; none for a run of one process.
    pub fn group(&self) -> Option<&'a Ranks> {
        self.group
    }

    /// S.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The examples of each shard that this process computes, of a step of `examples`.
    pub fn own(&self, examples: usize) -> Vec<Range<usize>> {
        self.numbers().map(|shard| own(examples, shard, self.count)).collect()
    }

    /// Numbers of the shards that this process computes.
    fn numbers(&self) -> Range<usize> {
        match self.group {
            Some(group) => own(self.count, group.rank(), group.count()),
            None => 0..self.count,
        }
    }

    /// Does a part of the work of the own shard of this index, and notes its seconds.
    pub fn timed<T>(&self, index: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let done = work()?;
        if let Some(clock) = &self.clock {
            let (mut stretches, shards) = (clock.borrow_mut(), self.numbers().len());
            if stretches.is_empty() {
                stretches.push(vec![0.0; shards]);
            }
            let sum = stretches.last_mut().and_then(|stretch| stretch.get_mut(index));
            sum.into_iter().for_each(|sum| *sum += begun.elapsed().as_secs_f64());
        }
        Ok(done)
    }

    /// Ends a stretch: ranks wait for one another here.
    fn meet(&self) {
        if let Some(clock) = &self.clock {
            clock.borrow_mut().push(vec![0.0; self.numbers().len()]);
        }
    }

    /// The seconds of the step that has ended, and no stretch that nothing was done in.
    pub fn take_seconds(&self) -> ShardSeconds {
        let mut stretches = self.clock.as_ref().map(|clock| clock.take()).unwrap_or_default();
        stretches.retain(|stretch| stretch.iter().any(|seconds| *seconds > 0.0));
        stretches
    }

    /// A pass of an update; passes of one update have different numbers.
    pub fn pass(&self, number: u64) -> ShardedPass<'_> {
        ShardedPass { shards: self, number }
    }

    /// Things by own shard and example as things by example, of all shards.
    pub fn gather<T: Packed>(&self, phase: &str, own: Vec<Vec<T>>) -> Result<Vec<T>> {
        self.meet();
        let own = own.into_iter().flatten();
        let Some(group) = self.group else { return Ok(own.collect()) };
        let mut packed = Vec::new();
        own.for_each(|thing| thing.pack(&mut packed));
        let mut numbers = group.gather_numbers(phase, &packed)?.into_iter().peekable();
        let mut all = Vec::new();
        while numbers.peek().is_some() {
            let torn = || Error::Rank(format!("{phase}: expected whole things of other ranks, got a part of one"));
            all.push(T::unpack(&mut numbers).ok_or_else(torn)?);
        }
        Ok(all)
    }

    /// Figures by own shard, summed over all shards in their order; every shard has the same.
    fn sum(&self, own: Vec<Metrics>) -> Result<Metrics> {
        let names: Vec<&'static str> = own.iter().take(1).flat_map(|figures| figures.iter()).map(|(n, _)| *n).collect();
        let values: Vec<f64> = own.iter().flat_map(|figures| figures.iter()).map(|(_, value)| *value).collect();
        let all = match self.group {
            Some(group) => group.gather_numbers("figures of an update", &values)?,
            None => values,
        };
        let mut sums = Metrics::default();
        for figures in all.chunks(names.len().max(1)) {
            sums.add(&names.iter().copied().zip(figures.iter().copied()).collect());
        }
        Ok(sums)
    }
}

impl ShardedPass<'_> {
    /// Gives `trainee` the gradient of update `update` over all shards, where `of` adds that of one of the own shards, counted
    /// from 0, and returns figures of it. Returns the sums of these figures.
    pub fn gradient(
        &self,
        trainee: &mut Trainee,
        update: usize,
        mut of: impl FnMut(&Trainee, usize) -> Result<Metrics>,
    ) -> Result<Metrics> {
        let Shards { run_seed, count, group, .. } = *self.shards;
        if count == 1 {
            return of(trainee, 0);
        }
        let (mut figures, mut sum) = (Vec::new(), TreeSum::default());
        for (index, shard) in self.shards.numbers().enumerate() {
            let draw = 1 + self.number * count as u64 + shard as u64; // 0 is the update in one piece
            rng::seed_torch(run_seed, Stream::Dropout, update as u64, draw);
            self.shards.timed(index, || {
                figures.push(of(trainee, index)?);
                sum.push(trainee.take_gradient()?);
                Ok(())
            })?;
        }
        self.shards.meet();
        let none = || Error::shape("parallel.grad_shards", "a power of two", count);
        let own = sum.finish().ok_or_else(none)?;
        match group {
            Some(group) => trainee.put_gradient(&group.sum("gradient", &own)?),
            None => trainee.put_gradient(&own),
        }
        self.shards.sum(figures)
    }
}
