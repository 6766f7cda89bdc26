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

/// Settings to open models with.
pub struct Opening<'a> {
    /// Flags that name the models, for errors.
    pub flags: &'a str,
    /// Flags of models behind HTTP.
    pub http: &'a HttpArgs,
    /// Device of a base that runs here.
    pub device: &'a DeviceArg,
    /// Whether the Hub is asked for nothing.
    pub offline: bool,
    /// Folder of the command, for paid answers.
    pub output: &'a Path,
}

impl Opening<'_> {
    /// Opens models; those behind HTTP share what may be spent.
    pub fn open<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> anyhow::Result<OpenModels> {
        let names: BTreeSet<&String> = names.into_iter().collect();
        let behind_http = names.iter().filter(|name| Protocol::of(name).is_some()).count();
        if behind_http == 0 {
            self.http.refuse(self.flags)?;
        }
        let mut opened = BTreeMap::new();
        for name in names {
            let own = match Protocol::of(name) {
                Some(_) => OpenModel::Remote(Box::new(self.http.endpoint(name, self.output, behind_http)?)),
                None => {
                    let model = named::model(Path::new(name), self.device, self.offline);
                    OpenModel::Local(Box::new(model.with_context(|| format!("{} {name}", self.flags))?))
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
