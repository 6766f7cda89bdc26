//! The copy head: an addition to the logits of the tokens that stand in a prefix, by the place that each would be copied
//! from.

use crate::model::config::ModelConfig;
use crate::tensor::widened;
use tch::{Device, Kind, Tensor};

/// Output rows for copying. To the logit of a token that may be copied it adds `hidden · rows[class]` for every class of
/// its place, and `value · (hidden · row)` for every value of the place; the rows of the values are the last.
#[derive(Clone, Copy)]
pub struct CopyHead<'a> {
    /// `[classes + values, H]`.
    pub rows: &'a Tensor,
    /// Matches of all actions whose hidden states the head will see.
    pub matches: &'a Matches,
    /// Index of the first action in the chunk at hand.
    pub first: i64,
}

/// Number of classes of places where nothing matches, by the power of two of the distance from the end of the prefix; they
/// are the first classes.
pub const DISTANCES: usize = 8;
/// Class of places that the gist has taken already, besides their other class.
pub const TAKEN: usize = DISTANCES;
/// Number of classes before those of the lengths of matches.
pub const LENGTHS: usize = TAKEN + 1;

/// For N actions, the tokens that may be copied, each with class and values of its place.
pub struct Matches {
    /// End of each action's entries: the index after its last entry, `[N]`.
    ends: Vec<i64>,
    /// Action of each of E entries, `[E]`.
    actions: Tensor,
    /// Token of each entry, `[E]`.
    tokens: Tensor,
    /// Class of the place of each entry, `[E]`.
    classes: Tensor,
    /// Values of the place of each entry, `[E, values]`.
    values: Tensor,
}

/// Tokens that may be copied, as they are gathered: E entries sorted by action.
#[derive(Default)]
pub struct MatchEntries {
    /// End of each action's entries: the index after its last entry, `[N]`.
    pub ends: Vec<i64>,
    /// Action of each entry.
    pub actions: Vec<i64>,
    /// Token of each entry.
    pub tokens: Vec<i64>,
    /// Class of the place of each entry.
    pub classes: Vec<i64>,
    /// Values of the place of each entry, as many for each, entry by entry.
    pub values: Vec<f32>,
}

impl MatchEntries {
    /// The entries as tensors on `device`, that of the logits.
    pub fn to_device(&self, device: Device) -> Matches {
        let count = self.actions.len();
        let each = self.values.len() / count.max(1);
        let on_device = |xs: &[i64]| Tensor::from_slice(xs).to_device(device);
        Matches {
            ends: self.ends.clone(),
            actions: on_device(&self.actions),
            tokens: on_device(&self.tokens),
            classes: on_device(&self.classes),
            values: Tensor::from_slice(&self.values).view([count as i64, each as i64]).to_device(device),
        }
    }
}

impl Matches {
    /// The entries of `n` actions from `first` on, actions counted from there.
    fn of(&self, first: i64, n: i64) -> Matches {
        let end = |actions: i64| if actions == 0 { 0 } else { self.ends[actions as usize - 1] };
        let (start, len) = (end(first), end(first + n) - end(first));
        let part = |xs: &Tensor| xs.narrow(0, start, len);
        Matches {
            ends: self.ends[first as usize..(first + n) as usize].iter().map(|end| end - start).collect(),
            actions: part(&self.actions) - first,
            tokens: part(&self.tokens),
            classes: part(&self.classes),
            values: part(&self.values),
        }
    }
}

/// Largest number of values of a place.
const MOST_VALUES: usize = 16;

/// Number of values of a place in this model: one for each group of consecutive heads, layer by layer.
pub fn values(model: &ModelConfig) -> usize {
    MOST_VALUES.min((model.num_hidden_layers * model.num_attention_heads) as usize)
}

/// Number of features of a unit that an extractive compressor has without its encoder: those of a copy head's places.
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
        let Matches { actions, tokens, classes, values, .. } = self.matches.of(self.first, n);
        let paid = widened(&hidden.linear(self.rows, None::<Tensor>)); // [N, classes + values]
        let (width, weights) = (paid.size()[1], values.size()[1]);
        let for_values = paid.narrow(1, width - weights, weights).index_select(0, &actions) * values;
        let paid = paid.reshape([-1]).index_select(0, &(&actions * width + classes));
        let paid = paid + for_values.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        logits.reshape([-1]).index_add(0, &(actions * v + tokens), &paid).view([n, v])
    }
}
