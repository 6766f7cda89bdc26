//! Matrix products of a step of co-training: tokens through the blocks and through the output head, part by part. `bench`
//! divides by it, `plan` multiplies.

use crate::config::choices::Condition;
use crate::config::compressors::CompressorConfig;
use crate::config::train::TrainConfig;
use crate::model::config::ModelConfig;

/// Sizes of a step.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Windows of a step.
    pub windows: usize,
    /// Gists in a group, G.
    pub group: usize,
    /// Cap of a gist in tokens, K; every gist is taken to fill it.
    pub budget: usize,
    /// Tokens of a prefix, P.
    pub prefix: usize,
    /// Tokens of a local window, L.
    pub local: usize,
    /// Tokens that every row begins with.
    pub begin: usize,
    /// Tokens of a future, F.
    pub future: usize,
    /// Futures of a window that the teacher imagines.
    pub imagined: usize,
    /// Tokens that the compressor reads of a window.
    pub prompt: usize,
    /// Gists of a window that an update of the generator reads.
    pub read: usize,
    /// Whether the bare base attends to the prefix first, for a copy head or for the heads of an extractive compressor.
    pub attends: bool,
    /// Whether gists are written token by token.
    pub writes: bool,
}

impl Sizes {
    /// Sizes of an experiment over a base whose rows begin with `begin` tokens.
    pub fn new(config: &TrainConfig, begin: usize) -> Self {
        let d = &config.data;
        let local = if config.condition == Condition::None { 0 } else { d.local_tokens + 1 };
        let writes = matches!(config.compressor, CompressorConfig::Gist { .. });
        Self {
            windows: config.train.windows_per_step,
            group: config.rollout.group_size,
            budget: config.budget_tokens(),
            prefix: d.prefix_tokens,
            local: d.local_tokens,
            begin,
            future: d.future_tokens,
            imagined: config.train.imagined_futures,
            prompt: begin + d.prefix_tokens + local + 1,
            read: config.generator.gists_per_window.min(config.rollout.group_size),
            attends: !writes || config.model.copy_lengths > 0,
            writes,
        }
    }

    /// Predicted tokens of a window: the true future and imagined ones.
    pub fn futures(&self) -> usize {
        (1 + self.imagined) * self.future
    }

    /// Tokens of a reader's row.
    pub fn row(&self) -> usize {
        self.begin + self.budget + 1 + self.local + self.futures()
    }

    /// The parts of a step.
    pub fn parts(&self) -> [Work; 5] {
        let n = self.windows;
        let written = if self.writes { n * self.group * self.budget } else { 0 };
        let attended = if self.attends { n * (self.begin + self.prefix) } else { 0 };
        let (rows, read) = (n * self.group, n * self.read);
        let imagined = n * self.imagined * self.future;
        let before = n * (self.begin + self.prefix + self.local);
        let work = Work::default();
        [
            Work {
                name: "teacher",
                forward: before + n * self.futures(),
                decode: imagined,
                decode_heads: imagined,
                ..work
            },
            Work {
                name: "rollouts",
                forward: n * self.prompt + attended,
                decode: written,
                decode_heads: written,
                ..work
            },
            Work { name: "reading", forward: rows * self.row(), heads: (rows + n) * self.futures(), ..work },
            Work {
                name: "policy update",
                forward: attended,
                update: n * self.prompt + written,
                update_heads: written,
                ..work
            },
            Work { name: "generator update", update: read * self.row(), update_heads: read * self.futures(), ..work },
        ]
    }
}

/// Tokens of one part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Name of the part.
    pub name: &'static str,
    /// Through the blocks, many at once.
    pub forward: usize,
    /// Through the blocks and back.
    pub update: usize,
    /// Through the blocks, one of each gist at a time.
    pub decode: usize,
    /// Through the head.
    pub heads: usize,
    /// Through the head of a loss: its figures, or the teacher, then forward and back.
    pub update_heads: usize,
    /// Through the head, to be drawn.
    pub decode_heads: usize,
}

impl Work {
    /// All tokens through the blocks.
    pub fn tokens(&self) -> usize {
        self.forward + self.update + self.decode
    }

    /// Floating-point operations of its matrix products: 2 a weight and token; a frozen base's backward costs as much as
    /// forward, since its weights get no gradient.
    pub fn flops(&self, model: &ModelConfig) -> f64 {
        let blocks = block_flops(model) * model.num_hidden_layers as f64;
        let (passes, heads) =
            (self.forward + 2 * self.update + self.decode, self.heads + 3 * self.update_heads + self.decode_heads);
        passes as f64 * blocks + heads as f64 * head_flops(model)
    }
}

/// Operations of a token in one block.
pub fn block_flops(model: &ModelConfig) -> f64 {
    let first = |name: &str| name.contains(".layers.0.");
    let matrices = model.parameters().into_iter().filter(|(name, shape)| first(name) && shape.len() == 2);
    2.0 * matrices.map(|(_, shape)| shape.iter().product::<i64>() as f64).sum::<f64>()
}

/// Operations of a token in the output head.
pub fn head_flops(model: &ModelConfig) -> f64 {
    2.0 * (model.vocab_size * model.hidden_size) as f64
}
