//! Documents that the splits of an experiment share: what is evaluated on must not have been learned from.

use crate::config::eval::ExamSplit;
use crate::config::labelled::LabelledConfig;
use crate::config::pretrain::PretrainConfig;
use crate::config::span_reader::SpanReaderConfig;
use crate::config::train::TrainConfig;
use crate::data::overlap::{SplitOverlap, SplitTexts, overlaps, report};
use crate::data::task::TaskRow;
use crate::data::{Document, LabelledText, read_documents, read_labelled, read_qa};
use crate::error::Result;
use crate::train::spans::examples::read as read_questions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An experiment whose text is divided into splits.
pub trait Splits {
    /// Documents of every split that is read from files, with the key that names it; what is learned from comes first.
    fn splits(&self) -> Result<Vec<(&'static str, Vec<Document>)>>;
    /// Whether a shared document is an error (`data.strict_splits`).
    fn strict(&self) -> bool;
}

impl Splits for TrainConfig {
    fn splits(&self) -> Result<Vec<(&'static str, Vec<Document>)>> {
        let data = &self.data;
        let window = data.prefix_tokens + data.local_tokens + data.future_tokens;
        let mut files = vec![("data.train", &data.train), ("data.valid", &data.valid), ("data.test", &data.test)];
        if self.eval.split == ExamSplit::Final {
            files.push(("data.final", &data.last));
        }
        let mut splits = Vec::new();
        for (key, file) in files {
            let read = |path: &Path| match &data.qa {
                None => read_documents(path),
                Some(_) => Ok(read_qa(path)?.contexts.into_iter().map(|context| context.document).collect()),
            };
            let mut documents = file.as_deref().map_or(Ok(Vec::new()), read)?;
            // No tokenizer makes more tokens than bytes: a shorter document has no window.
            documents.retain(|document| data.qa.is_some() || document.text.len() >= window);
            splits.push((key, documents));
        }
        Ok(splits)
    }

    fn strict(&self) -> bool {
        self.data.strict_splits
    }
}

impl Splits for LabelledConfig {
    fn splits(&self) -> Result<Vec<(&'static str, Vec<Document>)>> {
        let data = &self.data;
        let read = |files: &[&Path]| -> Result<Vec<Document>> {
            let all = files.iter().map(|file| Ok(read_labelled(file)?.texts)).collect::<Result<Vec<_>>>()?;
            let document = |row: LabelledText| Document { id: row.id, text: row.text, source: String::new() };
            Ok(all.into_iter().flatten().map(document).collect())
        };
        let train: Vec<&Path> = data.train.paths().iter().map(PathBuf::as_path).collect();
        let test: Vec<&Path> = data.test.named().into_iter().map(|(_, path)| path).collect();
        Ok(vec![("data.train", read(&train)?), ("data.valid", read(&[&data.valid])?), ("data.test", read(&test)?)])
    }

    fn strict(&self) -> bool {
        self.data.strict_splits
    }
}

impl Splits for SpanReaderConfig {
    fn splits(&self) -> Result<Vec<(&'static str, Vec<Document>)>> {
        let (data, mut splits) = (&self.data, Vec::new());
        for (key, files) in [("data.train", &data.train), ("data.valid", &data.valid), ("data.test", &data.test)] {
            let mut contexts: BTreeMap<String, Document> = BTreeMap::new();
            for row in read_questions(key, files)?.into_values().flatten() {
                let TaskRow { id, context, .. } = row;
                let document = |text: String| Document { id, text, source: String::new() };
                contexts.entry(context.clone()).or_insert_with(|| document(context));
            }
            splits.push((key, contexts.into_values().collect()));
        }
        Ok(splits)
    }

    fn strict(&self) -> bool {
        self.data.strict_splits
    }
}

impl Splits for PretrainConfig {
    fn splits(&self) -> Result<Vec<(&'static str, Vec<Document>)>> {
        let read = |files: &[PathBuf]| -> Result<Vec<Document>> {
            let all = files.iter().map(|file| read_documents(file)).collect::<Result<Vec<_>>>()?;
            Ok(all.into_iter().flatten().collect())
        };
        Ok(vec![("data.train", read(&self.data.train)?), ("data.valid", read(&self.data.valid)?)])
    }

    fn strict(&self) -> bool {
        self.data.strict_splits
    }
}

/// Finds the documents that two splits share and warns of them on stderr.
///
/// # Errors
/// A file that cannot be read; shared documents where `data.strict_splits` refuses them.
pub fn check(experiment: &impl Splits) -> Result<Vec<SplitOverlap>> {
    let splits = experiment.splits()?;
    let texts = splits.iter().map(|(key, documents)| SplitTexts {
        key,
        documents: documents.iter().map(|document| (document.id.as_str(), document.text.as_str())).collect(),
    });
    let found = overlaps(&texts.collect::<Vec<_>>());
    report(&found, experiment.strict())?;
    Ok(found)
}
