//! A figure of Homa beside that of another protocol, and how far the difference can be trusted.

use serde::{Serialize, Serializer};

use crate::{format::number, stats::Interval};

/// A figure of both, and their ratio.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The protocol that Homa is compared with: `TCP`, `QUIC` or `gRPC`.
    pub(crate) with: &'static str,
    /// What is compared.
    pub(crate) figure: &'static str,
    /// Homa's value: microseconds, slowdown or share; null in JSON if the samples do not carry it.
    pub(crate) homa: f64,
    /// The best value of a variant of the other.
    pub(crate) other: f64,
    /// Which variant that is.
    pub(crate) best: String,
    /// So many times Homa is better; below 1: worse. Null in JSON unless the run tells who is
    /// better.
    #[serde(rename = "times_better", serialize_with = "finite")]
    pub(crate) ratio: f64,
    /// What 95 % of the draws of a bootstrap gave for it; none of too few samples.
    #[serde(rename = "interval_95")]
    pub(crate) interval: Option<Interval>,
    /// The lowest and highest ratio of a single round, if there are several.
    pub(crate) rounds: Option<(f64, f64)>,
    /// RPCs that the figure is of, of the side that has fewer.
    pub(crate) samples: u64,
    /// What to think of it.
    pub(crate) verdict: Verdict,
    /// Writes Homa's value of this figure, and the other's.
    #[serde(skip)]
    pub(crate) show: [fn(f64) -> String; 2],
    /// Samples that an interval needs.
    #[serde(skip)]
    pub(crate) needed: u64,
}

impl Comparison {
    /// Homa's value, in words.
    pub(crate) fn homa(&self) -> String {
        (self.show[0])(self.homa)
    }

    /// The other's value, in words.
    pub(crate) fn other(&self) -> String {
        (self.show[1])(self.other)
    }

    /// The variant of the other that is best; a dash if none is known to be.
    pub(crate) fn best(&self) -> &str {
        if self.verdict == Verdict::TooFew { "–" } else { &self.best }
    }

    /// How many times better, as far as the run says that.
    pub(crate) fn times(&self) -> String {
        match self.verdict {
            Verdict::TooFew => "too few".to_owned(),
            Verdict::Unresolved | Verdict::BelowOne => "< resolution".to_owned(),
            Verdict::Undecided | Verdict::Homa | Verdict::Other => {
                format!("{}×", number(self.ratio))
            }
        }
    }

    /// The interval in words; how many samples it would need if there are too few.
    pub(crate) fn between(&self) -> String {
        match self.interval {
            _ if !self.verdict.has_ratio() => String::new(),
            Some(Interval { low, high }) => format!("{} to {}", number(low), number(high)),
            None if self.samples < self.needed => format!("needs n\u{a0}≥\u{a0}{}", self.needed),
            None => String::new(),
        }
    }
}

fn finite<S: Serializer>(ratio: &f64, to: S) -> Result<S::Ok, S::Error> {
    ratio.is_finite().then_some(*ratio).serialize(to)
}

/// How far a difference can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The samples do not carry the figure.
    TooFew,
    /// Smaller than what the network tells apart.
    Unresolved,
    /// A slowdown below 1, which cannot be: what it is relative to was measured while the machine
    /// was disturbed.
    BelowOne,
    /// Chance, or another round, might say the opposite.
    Undecided,
    /// Homa is better.
    Homa,
    /// The other is better.
    Other,
}

impl Verdict {
    /// Whether the ratio means something, be it by chance.
    pub(crate) fn has_ratio(self) -> bool {
        matches!(self, Verdict::Undecided | Verdict::Homa | Verdict::Other)
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Verdict::TooFew => "too few messages",
            Verdict::Unresolved => "below what this run tells apart",
            Verdict::BelowOne => "a slowdown below 1: see “Read with care”",
            Verdict::Undecided => "may be chance",
            Verdict::Homa => "Homa is better",
            Verdict::Other => "the other is better",
        }
    }
}
