//! Bidirectional encoders, weights under their Hugging Face names: BERT and MiniLM (Devlin et al. 2019, arXiv 1810.04805;
//! Wang et al. 2020, arXiv 2002.10957), DistilBERT (Sanh et al. 2019, arXiv 1910.01108), RoBERTa and XLM-R (Liu et al.
//! 2019, arXiv 1907.11692; Conneau et al. 2020, arXiv 1911.02116), ModernBERT (Warner et al. 2024, arXiv 2412.13663). Rows
//! are padded on the right, as these tokenizers do.

mod bert;
mod config;
mod modern;
mod named;
mod network;

pub use config::{EncoderConfig, EncoderFamily};
pub(super) use named::{Affine, LORA, NamedWeights};
pub(super) use network::Checkpoint;
pub use network::{Encoder, pools_first, real};
