//! Checks of an experiment that trains (`kind = "train"`): values out of range, and keys that contradict each other.

use crate::config::choices::{Condition, Signal, TokenCredit};
use crate::config::compressors::CompressorConfig;
use crate::config::eval::ExamSplit;
use crate::config::pair_start::PairStart;
use crate::config::parts::{Problem, at_least, below_one, check_name, not_negative, under};
use crate::config::questions::Answers;
use crate::config::train::{DataSection, GeneratorConfig, TrainConfig};
use crate::config::warm_start::WarmStart;

impl TrainConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if self.kind != "train" {
            return Err(("kind".into(), format!("expected \"train\", got {:?}", self.kind)));
        }
        check_name(&self.name)?;
        self.data.check().map_err(under("data"))?;
        self.reader.check().map_err(under("reader"))?;
        if self.condition == Condition::Query && !self.asks() {
            let message = "expected \"none\" or \"local\" (nobody asks without data.qa or data.facts), got \"query\"";
            return Err(("condition".into(), message.into()));
        }
        at_least("train.windows_per_step", self.train.windows_per_step, 1)?;
        self.parallel.check(self.train.windows_per_step).map_err(under("parallel"))?;
        at_least("train.micro_windows", self.train.micro_windows, 1)?;
        at_least("train.eval_every", self.train.eval_every, 1)?;
        at_least("train.checkpoint_every", self.train.checkpoint_every, 1)?;
        not_negative("train.checkpoint_minutes", self.train.checkpoint_minutes)?;
        below_one("train.average_decay", self.train.average_decay)?;
        at_least("train.log_rollouts_every", self.train.log_rollouts_every, 1)?;
        at_least("rollout.group_size", self.rollout.group_size, self.algo.estimator.smallest_group())?;
        not_negative("algo.entropy_coef", self.algo.entropy_coef)?;
        not_negative("algo.reference_kl_coef", self.algo.reference_kl_coef)?;
        not_negative("algo.recent_coef", self.algo.recent_coef)?;
        not_negative("algo.policy_coef", self.algo.policy_coef)?;
        let learns = self.train.steps > 0 && self.train.compressor_learns;
        if learns && self.algo.policy_coef == 0.0 && self.algo.recent_coef == 0.0 {
            let message =
                "expected more than 0 where algo.recent_coef is 0 (or train.compressor_learns = false), got 0";
            return Err(("algo.policy_coef".into(), message.into()));
        }
        if self.reward.signal == Signal::Logprob && self.train.imagined_futures > 0 {
            let message = "expected 0 under reward.signal = \"logprob\", which pays for the true future, got";
            return Err(("train.imagined_futures".into(), format!("{message} {}", self.train.imagined_futures)));
        }
        self.warm_start.check().map_err(under("warm_start"))?;
        let unasked =
            [("train.imagined_futures", self.train.imagined_futures), ("distill.windows", self.distill.windows)];
        if let Some((key, got)) = unasked.into_iter().find(|(_, got)| self.asks() && *got > 0) {
            return Err((key.into(), format!("expected 0 where probes ask (data.facts, data.qa), got {got}")));
        }
        self.check_compressor()?;
        self.distill.check().map_err(under("distill"))?;
        self.budget.check(self.data.prefix_tokens).map_err(under("budget"))?;
        self.train.schedule.check().map_err(under("train.schedule"))?;
        self.reward.check().map_err(under("reward"))?;
        self.algo.estimator.check().map_err(under("algo.estimator"))?;
        self.generator.check()?;
        self.model.lora.check().map_err(under("model.lora"))?;
        self.optim.compressor.check().map_err(under("optim.compressor"))?;
        self.optim.generator.check().map_err(under("optim.generator"))?;
        self.optim.imitation.check().map_err(under("optim.imitation"))?;
        if self.eval.unasked_windows > 0 && self.data.facts.is_none() {
            let message = "expected 0 (there is text round facts only with data.facts), got";
            return Err(("eval.unasked_windows".into(), format!("{message} {}", self.eval.unasked_windows)));
        }
        if self.eval.split == ExamSplit::Final && self.data.last.is_none() {
            return Err(("data.final".into(), "expected a path (eval.split is \"final\"), got none".into()));
        }
        self.eval.check().map_err(under("eval"))
    }

    /// Ranks that warm-started adapters are cut to: at most those that are trained, and only of low-rank weights.
    fn check_output_rank(&self) -> Result<(), Problem> {
        let (lora, cut) = (&self.model.lora, &self.warm_start.output_rank);
        let is_gist = matches!(self.compressor, CompressorConfig::Gist { .. });
        let trained = if is_gist { lora.compressor.rank } else { 0 };
        for (key, asked, most) in
            [("compressor", cut.compressor, trained), ("generator", cut.generator, lora.generator.rank)]
        {
            if let Some(rank) = asked.filter(|rank| !(1..=most).contains(rank)) {
                let message = format!("expected 1 to {most}, the rank that is trained, got {rank}");
                return Err((format!("warm_start.output_rank.{key}"), message));
            }
        }
        Ok(())
    }

    /// Keys that one kind of compressor has and the other has not.
    fn check_compressor(&self) -> Result<(), Problem> {
        let fail = |key: &str, expected: &str| Err((key.to_string(), expected.to_string()));
        if self.warm_start.fresh_compressor && self.warm_start.from.is_none() {
            return fail("warm_start.fresh_compressor", "expected warm_start.from beside it, got none");
        }
        if self.warm_start.fresh_readers && (self.warm_start.from.is_none() || self.warm_start.fresh_compressor) {
            return fail("warm_start.fresh_readers", "expected warm_start.from beside it, and no fresh_compressor");
        }
        self.check_output_rank()?;
        self.warm_start.pairs.as_ref().map_or(Ok(()), PairStart::check).map_err(under("warm_start.pairs"))?;
        if self.warm_start.reader_evidence > 0.0 && self.data.facts.is_none() && self.data.qa.is_none() {
            let message = "expected 0 (only data.facts and data.qa have evidence), got";
            return Err((
                "warm_start.reader_evidence".into(),
                format!("{message} {}", self.warm_start.reader_evidence),
            ));
        }
        self.compressor.check().map_err(under("compressor"))?;
        match &self.compressor {
            CompressorConfig::Gist { .. } => match self.distill.windows {
                0 => Ok(()),
                n => Err(("distill.windows".into(), format!("expected 0 (compressor.type is \"gist\"), got {n}"))),
            },
            CompressorConfig::Extractive { evidence: true, .. } => {
                fail("compressor.evidence", "expected false (`gist distill` teaches to find evidence), got true")
            }
            CompressorConfig::Extractive { .. } => self.check_extractive(),
        }
    }

    /// Keys of a compressor that writes, which one that extracts must leave alone.
    fn check_extractive(&self) -> Result<(), Problem> {
        let gist_only = "of a compressor that writes (compressor.type is \"extractive\")";
        let warm = &self.warm_start;
        for (key, value) in
            [("copy_updates", warm.copy_updates), ("pairs.updates", warm.pair_updates()), ("rounds", warm.rounds)]
        {
            if value > 0 {
                let message = format!("expected 0, it is {gist_only}, got {value}");
                return Err((format!("warm_start.{key}"), message));
            }
        }
        match self.algo.token_credit {
            TokenCredit::Uniform => Ok(()),
            TokenCredit::LeaveOneOut => {
                Err(("algo.token_credit".into(), format!("expected \"uniform\", another is {gist_only}")))
            }
        }
    }
}

/// Fails on sampled answers that nobody samples.
fn check_answers(answers: Answers, samples: usize) -> Result<(), Problem> {
    match answers {
        Answers::Given if samples > 0 => {
            Err(("samples".into(), format!("expected 0 (answers is \"given\"), got {samples}")))
        }
        Answers::Given | Answers::Teacher => Ok(()),
    }
}

impl DataSection {
    fn check(&self) -> Result<(), Problem> {
        let files = [("train", &self.train), ("valid", &self.valid), ("test", &self.test)];
        for (key, file) in files {
            match (file, &self.recall) {
                (None, None) => return Err((key.into(), "expected a path (or data.recall), got none".into())),
                (Some(_), Some(_)) => return Err((key.into(), "expected a path or data.recall, got both".into())),
                _ => {}
            }
        }
        if let (Some(_), Some(_)) = (&self.last, &self.recall) {
            return Err(("final".into(), "expected a path or data.recall, got both".into()));
        }
        if let Some(facts) = &self.facts {
            at_least("facts.per_context", facts.per_context, 1)?;
            check_answers(facts.answers, facts.samples).map_err(under("facts"))?;
            if self.recall.is_some() {
                return Err(("facts".into(), "expected data.facts or data.recall, got both".into()));
            }
        }
        if let Some(qa) = &self.qa {
            check_answers(qa.answers, qa.samples).map_err(under("qa"))?;
            if self.recall.is_some() || self.facts.is_some() {
                return Err(("qa".into(), "expected one of data.recall, data.facts and data.qa, got two".into()));
            }
        }
        at_least("prefix_tokens", self.prefix_tokens, 1)?;
        at_least("local_tokens", self.local_tokens, 1)?;
        at_least("future_tokens", self.future_tokens, 1)
    }
}

impl WarmStart {
    fn check(&self) -> Result<(), Problem> {
        at_least("batch", self.batch, 1)?;
        at_least("readers_every", self.readers_every, 1)?;
        at_least("copy_gists", self.copy_gists, 1)?;
        if !(0.0..=1.0).contains(&self.reader_evidence) {
            let message = format!("expected a share in [0, 1], got {}", self.reader_evidence);
            return Err(("reader_evidence".into(), message));
        }
        if self.rounds == 0 {
            return Ok(());
        }
        at_least("windows", self.windows, 1)?;
        at_least("span_tokens", self.span_tokens, 1)?;
        at_least("stride", self.stride, 1)?;
        at_least("shortlist", self.shortlist, 1)?;
        at_least("epochs", self.epochs, 1)?;
        at_least("gists", self.gists, 1)?;
        if !(0.0..=1.0).contains(&self.recent) {
            return Err(("recent".into(), format!("expected a share in [0, 1], got {}", self.recent)));
        }
        if self.temperature <= 0.0 || !self.temperature.is_finite() {
            return Err(("temperature".into(), format!("expected a finite number above 0, got {}", self.temperature)));
        }
        Ok(())
    }
}

impl GeneratorConfig {
    fn check(&self) -> Result<(), Problem> {
        at_least("generator.gists_per_window", self.gists_per_window, 1)?;
        at_least("generator.stale_refresh_steps", self.stale_refresh_steps.unwrap_or(1), 1)?;
        let shares = [self.current, self.empty, self.extractive, self.stale];
        let sum: f64 = shares.iter().sum();
        // Written so that NaN fails.
        if shares.iter().all(|share| *share >= 0.0) && (sum - 1.0).abs() <= 1e-6 {
            return Ok(());
        }
        let message = format!(
            "expected shares current + empty + extractive + stale of at least 0 that sum to 1, got {} = {sum}",
            shares.map(|share| share.to_string()).join(" + ")
        );
        Err(("generator".into(), message))
    }
}
