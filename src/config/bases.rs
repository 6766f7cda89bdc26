//! Checking a file that is only ever the `base` of others, and so may leave out any key. Which values are possible
//! together is checked in the experiments that name it.

use crate::config::chain::parse;
use crate::config::merge::Tree;
use crate::config::pretrain::PretrainConfig;
use crate::config::train::TrainConfig;
use crate::error::Result;
use std::path::Path;

/// The keys without a default, with stand-ins: they count as set while a base is checked.
const REST_OF_TRAIN: &str = r#"
kind = "train"
name = "base"
model.path = "model"
data.prefix_tokens = 1
data.local_tokens = 1
data.future_tokens = 1
budget = {}
train.steps = 0
train.windows_per_step = 1
optim.compressor.lr = 0.0
optim.generator.lr = 0.0
optim.imitation.lr = 0.0
"#;

const REST_OF_PRETRAIN: &str = r#"
kind = "pretrain"
name = "base"
output = "model"
data = {}
model.hidden_size = 2
model.intermediate_size = 1
model.num_hidden_layers = 1
model.num_attention_heads = 1
model.num_key_value_heads = 1
model.max_position_embeddings = 96
optim.lr = 0.0
train.steps = 1
train.batch_rows = 1
"#;

/// Fails on an unknown key or a value of the wrong type in what may become part of a `train` experiment.
pub fn check_train(tree: Tree) -> Result<()> {
    completed(tree, REST_OF_TRAIN)?.resolve::<TrainConfig>().map(drop)
}

/// Fails on an unknown key or a value of the wrong type in what may become part of a `pretrain` experiment.
pub fn check_pretrain(tree: Tree) -> Result<()> {
    completed(tree, REST_OF_PRETRAIN)?.resolve::<PretrainConfig>().map(drop)
}

fn completed(mut tree: Tree, rest: &str) -> Result<Tree> {
    tree.complete(parse(rest, Path::new(file!()))?);
    Ok(tree)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::merge::load_tree;

    #[test]
    fn an_empty_base_passes_and_a_wrong_key_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let tree = |text: &str| {
            let path = folder.path().join("base.toml");
            std::fs::write(&path, text).unwrap();
            load_tree(&path, &[]).unwrap()
        };
        check_train(tree("")).unwrap();
        check_pretrain(tree("")).unwrap();
        let error = check_train(tree("[train]\nstep = 3")).unwrap_err().to_string();
        assert!(error.contains("base.toml: `train.step`: unknown key `step` (did you mean `steps`?)"), "{error}");
        let error = check_pretrain(tree("[optim]\nlr = \"high\"")).unwrap_err().to_string();
        assert!(error.contains("base.toml: `optim.lr`: expected a number"), "{error}");
    }
}
