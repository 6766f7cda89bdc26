//! Flags of the model that answers, and the model that they name.

use crate::cli::args::naming;
use anyhow::{Context, ensure};
use gist::endpoint::{Endpoint, EndpointConfig, Prices, Protocol};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the span reader that ships, and what begins the names of others.
const SPAN: &str = "span";
/// Folder of the span reader that ships.
const SHIPPED_READER: &str = "checkpoints/minilm/reader";

/// Flags of the model that answers.
#[derive(clap::Args)]
pub struct TaskModelArgs {
    /// Model that answers: openai:NAME, anthropic:NAME or gemini:NAME for one behind HTTP, with a key in the environment or in .env
    /// (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY); span for the span reader that ships, or span:FOLDER for another; else
    /// a decoder that runs here, as --base. Absent = --base.
    #[arg(long, value_name = "PROTOCOL:NAME|span|RUN|MODEL")]
    task_model: Option<String>,
    #[command(flatten)]
    http: HttpArgs,
}

/// Flags of models behind HTTP.
#[derive(clap::Args)]
pub struct HttpArgs {
    /// Server of a model behind HTTP, such as http://127.0.0.1:8000/v1 (vLLM, llama.cpp, Ollama); absent = the provider's own.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Questions under way at a time, behind HTTP.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Seconds that an answer may take, behind HTTP.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Further key of every request behind HTTP, its value as JSON; null takes a key out (repeatable).
    #[arg(long, value_name = "KEY=JSON")]
    request: Vec<String>,
    /// Folder of answers that were paid for, which several evaluations may share; absent = answers in --output.
    #[arg(long, value_name = "DIR")]
    answers: Option<PathBuf>,
    /// Prices that come before those that ship (docs/downstream.md has the form).
    #[arg(long, value_name = "TOML")]
    prices: Option<PathBuf>,
    /// Dollars that this command may spend: no call is sent that could pass them.
    #[arg(long, value_name = "USD", value_parser = dollars)]
    max_cost: Option<f64>,
}

impl TaskModelArgs {
    /// The name of a decoder that runs here, if one is given.
    pub fn local(&self) -> Option<&Path> {
        let others = |name: &&str| Protocol::of(name).is_none() && span(name).is_none();
        self.task_model.as_deref().filter(others).map(Path::new)
    }

    /// The folder of the span reader, if one is named.
    pub fn span(&self) -> Option<&Path> {
        self.task_model.as_deref().and_then(span)
    }

    /// The model behind HTTP, if one is named.
    pub fn endpoint(&self, output: &Path) -> anyhow::Result<Option<Endpoint>> {
        match self.task_model.as_deref().filter(|name| Protocol::of(name).is_some()) {
            Some(name) => Ok(Some(self.http.endpoint(name, output, 1)?)),
            None => self.http.refuse("--task-model").map(|()| None),
        }
    }
}

impl HttpArgs {
    /// An error where a flag is given that only a model behind HTTP takes, which `flag` would name.
    pub fn refuse(&self, flag: &str) -> anyhow::Result<()> {
        let given = [
            ("--base-url", self.base_url.is_some()),
            ("--request", !self.request.is_empty()),
            ("--answers", self.answers.is_some()),
            ("--prices", self.prices.is_some()),
            ("--max-cost", self.max_cost.is_some()),
        ];
        let Some((own, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
        let names: Vec<String> = Protocol::ALL.iter().map(|own| format!("{}:NAME", own.name())).collect();
        anyhow::bail!("{own}: expected {flag} {} beside it, got a model that runs here", names.join(" or "))
    }

    /// The model `PROTOCOL:NAME`, one of `models` that share what may be spent.
    pub fn endpoint(&self, name: &str, output: &Path, models: usize) -> anyhow::Result<Endpoint> {
        let (protocol, model) = Protocol::of(name).with_context(|| format!("expected PROTOCOL:NAME, got {name:?}"))?;
        let mut request = Map::new();
        for text in &self.request {
            let form = || format!("--request: expected KEY=JSON, such as seed=1 or temperature=null, got {text:?}");
            let (key, value) = text.split_once('=').with_context(form)?;
            let value: Value = serde_json::from_str(value).with_context(form)?;
            ensure!(
                request.insert(key.trim().into(), value).is_none(),
                "--request: expected {key:?} once, got it twice"
            );
        }
        let config = EndpointConfig {
            protocol,
            model: model.into(),
            base_url: self.base_url.clone(),
            timeout: Duration::from_secs(self.timeout.into()),
            concurrency: self.concurrency.into(),
            request,
            answers: self.answers.clone().unwrap_or_else(|| output.join("answers")),
            prices: Prices::load(self.prices.as_deref()).map_err(naming("--prices"))?,
            max_cost: self.max_cost.map(|usd| usd / models as f64),
        };
        Ok(Endpoint::open(config)?)
    }
}

/// The folder of a span reader that a name stands for.
fn span(name: &str) -> Option<&Path> {
    match name.split_once(':') {
        None if name == SPAN => Some(Path::new(SHIPPED_READER)),
        Some((SPAN, folder)) => Some(Path::new(folder)),
        _ => None,
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    let found = text.trim_start_matches('$').parse().ok().filter(|usd: &f64| usd.is_finite() && *usd >= 0.0);
    found.ok_or_else(|| format!("expected dollars, 0 or more, got {text:?}"))
}
