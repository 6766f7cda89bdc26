//! A model that answers prompts, wherever it runs.

use crate::error::Result;
use serde_json::Value;

/// The answers to some prompts.
pub type Ask<'a> = Box<dyn Fn(&[String]) -> Result<Vec<String>> + 'a>;

/// A model that answers prompts.
pub struct AskedModel<'a> {
    /// Name in rows.
    pub name: String,
    /// Function that asks it.
    pub ask: Ask<'a>,
}

/// The JSON object in a reply, whatever stands round it.
pub fn json_in(reply: &str) -> Option<Value> {
    let begin = reply.find('{')?;
    let whole = || serde_json::from_str(reply.get(begin..=reply.rfind('}')?)?).ok();
    let first = || serde_json::from_str(reply.get(begin..=reply.find('}')?)?).ok();
    whole().or_else(first)
}
