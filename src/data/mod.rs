//! Text and token ids, never tensors: documents from files, near-duplicates, windows, generated documents.

mod align;
mod corpus;
mod dedup;
mod facts;
mod labelled;
pub mod overlap;
mod packing;
pub mod pairs;
mod qa;
mod recall;
mod recall_bound;
mod splits;
pub mod task;
mod windows;

pub use corpus::{Document, next_line, open_rows, parse_row, read_documents};
pub use dedup::{Near, near_duplicates};
pub use facts::{Fact, FactsDocument, FactsShape, Kind, facts_document};
pub use labelled::{Labelled, LabelledText, read_labelled};
pub use qa::{QaContext, QaRows, Question, read_qa};
pub use recall::{RecallConfig, RecallDocument, Split, recall_document};
pub use splits::{generate, split_documents};
pub use windows::{
    Eligible, Probe, Window, WindowShape, held_out_windows, training_window, with_collage, with_repeated_span,
};
