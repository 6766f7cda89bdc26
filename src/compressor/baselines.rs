//! The baselines that every table has; those that are prompted need the base's chat template too
//! ([`crate::models::Models::baselines`]).

use crate::compressor::baseline::{Empty, Identity};
use crate::compressor::budget::Controller;
use crate::compressor::contract::Compressor;
use crate::compressor::draft::BaseDraft;
use crate::compressor::llmlingua::LlmLingua;
use crate::compressor::recent_joined::RecentJoined;
use crate::compressor::scorer::Extractive;
use crate::compressor::scorers::{Parts, ScorerKind};
use crate::tokenizer::Tokenizer;

/// The baselines of every table, in table order. Those that score do so under `controller`; none writes an id in
/// `forbidden`. `identity` is the upper end point, exempt from the budget.
pub fn baselines<'a>(
    parts: Parts<'a>,
    tokenizer: &'a Tokenizer,
    forbidden: &'a [u32],
    controller: &Controller,
) -> Vec<Box<dyn Compressor + 'a>> {
    let scored = |kind| -> Box<dyn Compressor + 'a> {
        Box::new(Extractive { controller: controller.clone(), ..Extractive::plain(kind, parts, tokenizer) })
    };
    let mut all: Vec<Box<dyn Compressor + 'a>> = vec![Box::new(Empty)];
    all.extend(ScorerKind::ALL.iter().map(|&kind| scored(kind)));
    all.push(Box::new(RecentJoined { tokenizer }));
    all.push(Box::new(LlmLingua { decoder: parts.decoder, tokenizer, controller: controller.clone() }));
    all.push(Box::new(BaseDraft { decoder: parts.decoder, forbidden }));
    all.push(Box::new(Identity));
    all
}
