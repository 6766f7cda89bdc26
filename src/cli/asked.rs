//! Models that answer prompts of an evaluation, by name: one behind HTTP, or a base that runs here.

use crate::cli::args::DeviceArg;
use crate::cli::named;
use crate::cli::task_model::HttpArgs;
use anyhow::Context;
use gist::data::task::{TaskPrompt, TaskRow};
use gist::endpoint::{Endpoint, EndpointQuestion, Protocol, Spent};
use gist::eval::asked::{Ask, AskedModel};
use gist::eval::task::reader::LocalReader;
use gist::models::Models;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A model that was opened.
enum OpenModel {
    Local(Box<Models>),
    Remote(Box<Endpoint>),
}

/// Models by name, each opened once.
pub struct OpenModels(BTreeMap<String, OpenModel>);

/// Flags of commands that ask models, and say figures with intervals of the answers.
#[derive(clap::Args)]
pub struct AskedArgs {
    /// Seed of the intervals.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Resamples of the intervals.
    #[arg(long, default_value_t = 2000)]
    pub resamples: usize,
    #[command(flatten)]
    device: DeviceArg,
    /// Ask the Hub for nothing: its models must be in the cache.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    http: HttpArgs,
}

impl AskedArgs {
    /// Opens models, which `flags` name in errors; those behind HTTP share what may be spent, and leave paid answers in `output`.
    pub fn open<'n>(
        &self,
        flags: &str,
        names: impl IntoIterator<Item = &'n String>,
        output: &Path,
    ) -> anyhow::Result<OpenModels> {
        let names: BTreeSet<&String> = names.into_iter().collect();
        let behind_http = names.iter().filter(|name| Protocol::of(name).is_some()).count();
        if behind_http == 0 {
            self.http.refuse(flags)?;
        }
        let mut opened = BTreeMap::new();
        for name in names {
            let own = match Protocol::of(name) {
                Some(_) => OpenModel::Remote(Box::new(self.http.endpoint(name, output, behind_http)?)),
                None => {
                    let model = named::model(Path::new(name), &self.device, self.offline);
                    OpenModel::Local(Box::new(model.with_context(|| format!("{flags} {name}"))?))
                }
            };
            opened.insert(name.clone(), own);
        }
        Ok(OpenModels(opened))
    }
}

impl OpenModels {
    /// A model as something that answers prompts, in at most so many tokens; none of a name that was not opened.
    pub fn asked<'a>(
        &'a self,
        name: &str,
        answer_tokens: usize,
        about: &'a str,
        stop: &'a AtomicBool,
    ) -> Option<AskedModel<'a>> {
        let ask: Ask<'a> = match self.0.get(name)? {
            OpenModel::Local(models) => Box::new(move |prompts: &[String]| {
                prompts.iter().map(|prompt| local(models, prompt, answer_tokens, about)).collect()
            }),
            OpenModel::Remote(endpoint) => Box::new(move |prompts: &[String]| {
                let questions = prompts.iter().map(|text| EndpointQuestion { text, answer_tokens, about });
                let answers = endpoint.ask(&questions.collect::<Vec<_>>(), stop)?;
                Ok(answers.into_iter().map(|answer| answer.reply.text).collect())
            }),
        };
        Some(AskedModel { name: name.to_string(), ask })
    }

    /// Answers and dollars of this command, by model behind HTTP.
    pub fn spent(&self) -> BTreeMap<&String, Spent> {
        let own = self.0.iter().filter_map(|(name, own)| match own {
            OpenModel::Remote(endpoint) => Some((name, endpoint.spent())),
            OpenModel::Local(_) => None,
        });
        own.collect()
    }
}

/// The greedy answer of a base; of a prompt that it has no room for, the middle is cut out.
fn local(models: &Models, prompt: &str, answer_tokens: usize, about: &str) -> gist::error::Result<String> {
    let reader = LocalReader { models, answer_tokens };
    let (before, after) = (String::new(), String::new());
    let prompted = Some(TaskPrompt { before, after, answer_tokens });
    let row = TaskRow { id: about.into(), prompt: prompted, ..TaskRow::default() };
    let question = reader.question(&row, Some(prompt))?;
    Ok(reader.answers(&row, &[question])?.remove(0))
}
