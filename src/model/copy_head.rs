//! The copy head: what tokens that stand in a prefix are paid on top of their logits, by where they would be copied from.

use crate::model::config::ModelConfig;
use crate::tensor::widened;
use tch::{Device, Kind, Tensor};

/// Output rows for copying: a token that may be copied gets `hidden · rows[class]` on top of its logit for
/// every class of its place, and `value · (hidden · row)` for every value that the place has, whose rows are the last.
#[derive(Clone, Copy)]
pub struct CopyHead<'a> {
    /// `[classes + values, H]`.
    pub rows: &'a Tensor,
    /// Of all the tokens whose hidden states the head will see.
    pub matches: &'a Matches,
    /// Of those, the first in the chunk at hand.
    pub first: i64,
}

/// Classes of places where nothing matches, the first ones of a copy head: by the power of two of their distance from the
/// end of the prefix.
pub const DISTANCES: usize = 8;
/// Class of the places that the gist has taken already, beside their other class.
pub const TAKEN: usize = DISTANCES;
/// Classes before those of the lengths of matches.
pub const LENGTHS: usize = TAKEN + 1;

/// For N actions, the tokens that may be copied with class and values of the place that each would come from.
pub struct Matches {
    /// Where the entries of each action end.
    ends: Vec<i64>,
    /// Action, token and class of each entry, `[E]` each.
    entries: [Tensor; 3],
    /// `[E, values]`.
    values: Tensor,
}

impl Matches {
    /// From entries sorted by action; those of action i end before `ends[i]`. Values entry by entry, as many for each.
    pub fn new(ends: Vec<i64>, entries: [Vec<i64>; 3], values: &[f32], device: Device) -> Self {
        let count = entries[0].len().max(1);
        let values = Tensor::from_slice(values).view([entries[0].len() as i64, (values.len() / count) as i64]);
        let entries = entries.map(|xs| Tensor::from_slice(&xs).to_device(device));
        Self { ends, entries, values: values.to_device(device) }
    }

    /// Action (counted from `first`), token, class and values of the entries of `n` actions.
    fn of(&self, first: i64, n: i64) -> [Tensor; 4] {
        let end = |actions: i64| if actions == 0 { 0 } else { self.ends[actions as usize - 1] };
        let (start, len) = (end(first), end(first + n) - end(first));
        let [actions, tokens, classes] = self.entries.each_ref().map(|xs| xs.narrow(0, start, len));
        [actions - first, tokens, classes, self.values.narrow(0, start, len)]
    }
}

/// Most values of a place.
const MOST_VALUES: usize = 16;

/// Values that a place has in this model: one for each group of heads, consecutive ones, layer by layer.
pub fn values(model: &ModelConfig) -> usize {
    MOST_VALUES.min((model.num_hidden_layers * model.num_attention_heads) as usize)
}

/// Features of a unit of a prefix by which an extractive compressor knows it without its encoder: the same as those of a
/// copy head's places.
pub fn features(model: &ModelConfig) -> i64 {
    (DISTANCES + values(model)) as i64
}

/// Rows of a copy head over `model` that tells matches of up to `longest` tokens apart (0 = no copy head).
pub fn rows(longest: usize, model: &ModelConfig) -> usize {
    if longest == 0 { 0 } else { LENGTHS + longest + values(model) }
}

/// The longest match that a copy head with so many rows over `model` tells apart.
pub fn longest(rows: usize, model: &ModelConfig) -> usize {
    rows.saturating_sub(LENGTHS + values(model))
}

impl CopyHead<'_> {
    /// Logits `[N, V]` of the actions with these hidden states `[N, H]`, and what copying adds.
    pub fn pay(&self, hidden: &Tensor, logits: &Tensor) -> Tensor {
        let (n, v) = (logits.size()[0], logits.size()[1]);
        let [actions, tokens, classes, values] = self.matches.of(self.first, n);
        let paid = widened(&hidden.linear(self.rows, None::<Tensor>)); // [N, classes + values]
        let (width, weights) = (paid.size()[1], values.size()[1]);
        let for_values = paid.narrow(1, width - weights, weights).index_select(0, &actions) * values;
        let paid = paid.reshape([-1]).index_select(0, &(&actions * width + classes));
        let paid = paid + for_values.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        logits.reshape([-1]).index_add(0, &(actions * v + tokens), &paid).view([n, v])
    }
}
