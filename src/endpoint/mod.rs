//! Models of others, behind HTTP: chat completions as OpenAI has them (and vLLM, llama.cpp and Ollama after it), messages of
//! Anthropic, generateContent of Gemini. A question is one message of the user; an answer is its text, and what it was billed as.
//!
//! ```text
//! question ─ request ─ answered before? ─ spent + the most that it can cost within the limit? ─ sent, again where that helps ─ answer
//! ```
//! Answers are kept on the disk as they arrive, under a hash of address and request: whatever was paid for is not asked again.

mod answers;
mod client;
mod key;
mod prices;
mod protocol;
mod spending;

pub use client::{Endpoint, EndpointAnswer, EndpointConfig, EndpointQuestion};
pub use prices::{Price, Prices};
pub use protocol::{ModelReply, Protocol};
pub use spending::Spent;
