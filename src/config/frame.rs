//! The frame of an experiment: what `[reader]` says, or the plain one of its data.

use crate::config::train::TrainConfig;

impl TrainConfig {
    /// Whether its probes ask: those of `data.facts` and `data.qa`.
    pub fn asks(&self) -> bool {
        self.data.facts.is_some() || self.data.qa.is_some()
    }

    /// The frame of its data, where `[reader]` says none.
    pub fn plain_frame(&self) -> &'static str {
        match (&self.data.qa, &self.data.facts) {
            (Some(_), _) => "{context}\n\nQuestion: {local}\nAnswer:",
            (None, Some(_)) => "{context}\n\n{local}",
            (None, None) => "{context}{local}",
        }
    }

    /// The frame in words; none where nothing stands round context and local window.
    pub fn frame_in_words(&self) -> Option<String> {
        let is_bare = self.reader.is_plain() && !self.asks();
        (!is_bare).then(|| self.reader.in_words(self.plain_frame()))
    }
}
