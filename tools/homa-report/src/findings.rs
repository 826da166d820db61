//! What a run found, for the program that has just measured it.

use serde_json::Value;

use crate::{
    compare::{FAMILIES, comparisons},
    comparison::Comparison,
    error::ReportError,
    run::{Run, Sample},
    text,
};

/// A run that is reduced to figures, with how far each can be trusted.
#[derive(Debug)]
pub struct Findings {
    run: Run,
}

impl Findings {
    /// Takes what `run.json` will hold and the RPCs in any order, those of the warm-up included.
    ///
    /// # Errors
    /// [`ReportError::Damaged`] or [`ReportError::Newer`] if the document is none of a run.
    pub fn new(
        document: Value,
        samples: impl Iterator<Item = Sample>,
    ) -> Result<Self, ReportError> {
        Ok(Findings { run: Run::of(document, samples)? })
    }

    /// The Homa transport of this name against the best variant of TCP, of QUIC and of gRPC, as far
    /// as the run has them.
    pub fn against(&self, homa: &str) -> Vec<Comparison> {
        let all = FAMILIES.iter().flat_map(|family| comparisons(&self.run, *family));
        all.filter(|(name, _)| *name == homa).flat_map(|(_, found)| found).collect()
    }

    /// Outcome, tables and doubts for a terminal.
    pub fn text(&self) -> String {
        text::of(&self.run)
    }
}
