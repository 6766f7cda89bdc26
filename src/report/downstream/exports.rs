//! Rows in the forms that other tools read: samples of ragas, a file a compressor and budget, and instance-level rows of Every Eval
//! Ever 0.3.0.

use crate::eval::task::rows::DownstreamRow;
use crate::hash::sha256;
use crate::run_dir::component;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the instance-level schema, whose file is `instance_level_eval.schema.json` of the project.
const EVERY_EVAL_EVER: &str = "0.3.0";

fn lines(rows: impl Iterator<Item = Value>) -> Vec<u8> {
    rows.flat_map(|row| (row.to_string() + "\n").into_bytes()).collect()
}

/// Single-turn samples of ragas, whose columns are the question, the texts that were read, the answer and one reference. They have no
/// place for a compressor: each has a file of its own.
pub fn ragas(rows: &[DownstreamRow]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: BTreeMap<String, Vec<&DownstreamRow>> = BTreeMap::new();
    for row in rows {
        files.entry(format!("{}@{}", component(&row.compressor), row.budget_requested)).or_default().push(row);
    }
    let sample = |row: &&DownstreamRow| {
        let reference = row.answers.first().cloned().unwrap_or_default();
        json!({"user_input": row.query, "retrieved_contexts": [row.compressed_text], "response": row.compressed_output,
            "reference": reference})
    };
    let file = |(name, own): (String, Vec<&DownstreamRow>)| {
        (Path::new("ragas").join(format!("{name}.jsonl")), lines(own.iter().map(sample)))
    };
    files.into_iter().map(file).collect()
}

/// Instance-level rows of Every Eval Ever, each with compressor and budget in the name of the evaluation. The file that they belong to
/// there names an organisation and a source, which only who publishes them knows: it is not written here.
pub fn every_eval_ever(rows: &[DownstreamRow]) -> Vec<u8> {
    let row = |row: &DownstreamRow| {
        let model = &row.origin.task_model;
        let name = format!("{}/{}@{}", row.benchmark, row.compressor, row.budget_requested);
        let set: String = row.origin.dataset.chars().take(12).collect();
        let usage = row.input_tokens_compressed.zip(row.output_tokens_compressed).map(
            |(input, output)| json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output}),
        );
        json!({
            "schema_version": EVERY_EVAL_EVER,
            "evaluation_id": format!("{}/{model}/{set}", row.benchmark),
            "model_id": model,
            "evaluation_name": name,
            "evaluation_result_id": name,
            "sample_id": row.example_id,
            "sample_hash": sha256(format!("{}{}", row.query, row.answers.concat()).as_bytes()),
            "interaction_type": "single_turn",
            "input": {"raw": row.query, "reference": row.answers},
            "output": {"raw": [row.compressed_output]},
            "answer_attribution": [{"turn_idx": 0, "source": "output.raw", "extracted_value": row.compressed_output,
                "extraction_method": "custom", "is_terminal": true}],
            "evaluation": {"score": row.compressed_f1, "is_correct": row.compressed_exact_match == 1.0},
            "token_usage": usage,
            "performance": {"latency_ms": row.latency_ms_compressed},
            "metadata": {
                "compressor": row.compressor,
                "budget_requested": row.budget_requested.to_string(),
                "context_tokens_full": row.context_tokens_full.to_string(),
                "context_tokens_compressed": row.context_tokens_compressed.to_string(),
                "full_f1": row.full_f1.to_string(),
                "closed_f1": row.closed_f1.to_string(),
                "document": row.document,
                "domain": row.domain,
            },
        })
    };
    lines(rows.iter().map(row))
}
