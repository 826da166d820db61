//! What a run came to.

use std::{collections::BTreeMap, time::Duration};

use homa_report::format::thousands;
use serde::Serialize;

use super::{ledger::Ledger, plan::Kind, stage::Stage};
use crate::{error::CliError, failures::Failures};

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    /// The command line that repeats it.
    again: String,
    secs: f64,
    network: String,
    skipped: Vec<String>,
    faults: BTreeMap<Kind, FaultRow>,
    calls: Calls,
    /// Of a scenario: from the end of its fault to the end of the last call, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    all_ended_after_secs: Option<f64>,
    journal_lines_withheld: u64,
    violation_count: u64,
    violations: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FaultRow {
    count: u64,
    recovery_secs_max: f64,
}

#[derive(Debug, Serialize)]
struct Calls {
    began: u64,
    answered: u64,
    failed: u64,
    failures: Failures,
    /// Given up by their client.
    dropped: u64,
    /// Ended with their client, which was killed.
    lost: u64,
    handlers_ran: u64,
    /// Calls whose handler ran in two lives of a server: what at most once per life allows.
    ran_in_two_lives: u64,
    worst_secs: f64,
}

impl Report {
    pub(super) fn new(
        seed: u64,
        again: String,
        length: Duration,
        stage: &Stage,
        ledger: &Ledger,
        all_ended_after: Option<Duration>,
    ) -> Self {
        let secs = |ns: u64| ns as f64 / 1e9;
        let counts = &ledger.counts;
        let row = |(kind, injected): (Kind, super::ledger::Injected)| {
            let recovery_secs_max = secs(injected.recovery_ns_max);
            (kind, FaultRow { count: injected.count, recovery_secs_max })
        };
        Report {
            seed,
            again,
            secs: length.as_secs_f64(),
            network: stage.network.clone(),
            skipped: stage.skipped.clone(),
            faults: ledger.injected().into_iter().map(row).collect(),
            calls: Calls {
                began: counts.began,
                answered: counts.answered,
                failed: counts.failed,
                failures: counts.failures.clone(),
                dropped: counts.dropped,
                lost: counts.lost,
                handlers_ran: counts.ran,
                ran_in_two_lives: counts.ran_in_two_lives,
                worst_secs: secs(counts.worst_ns),
            },
            all_ended_after_secs: all_ended_after.map(|after| after.as_secs_f64()),
            journal_lines_withheld: counts.withheld_lines,
            violation_count: ledger.violation_count,
            violations: ledger.violations.clone(),
        }
    }

    /// The result for people.
    pub(super) fn text(&self) -> String {
        let number = |number: u64| thousands(number as f64);
        let calls = &self.calls;
        let mut lines = vec![format!("ran for {:.1} s with seed {}", self.secs, self.seed)];
        if !self.faults.is_empty() {
            lines.push(
                "\nfault         count   first good answer after its end, at most".to_owned(),
            );
        }
        for (kind, row) in &self.faults {
            let kind = kind.to_string();
            lines.push(format!("{kind:12} {:6}   {:8.3} s", row.count, row.recovery_secs_max));
        }
        lines.push(format!(
            "\ncalls      {} began, {} answered, {} failed, {} given up by their client, {} ended with it",
            number(calls.began),
            number(calls.answered),
            number(calls.failed),
            number(calls.dropped),
            number(calls.lost)
        ));
        for (reason, count) in calls.failures.sorted() {
            lines.push(format!("           {:>9} {reason}", number(count)));
        }
        lines.push(format!(
            "longest    {:.3} s from the beginning of a call to its end",
            calls.worst_secs
        ));
        lines.push(format!(
            "handlers   {} ran, {} of them a second time in another life of the server",
            number(calls.handlers_ran),
            number(calls.ran_in_two_lives)
        ));
        if self.journal_lines_withheld > 0 {
            let lines_withheld = number(self.journal_lines_withheld);
            lines.push(format!(
                "journals   {lines_withheld} lines waited for room on the full disk, none was lost"
            ));
        }
        if let Some(after) = self.all_ended_after_secs {
            lines.push(format!("all ended  {after:.3} s after the client went on"));
        }
        lines.push(match self.violation_count {
            0 => "violations none".to_owned(),
            count => format!("violations {}", number(count)),
        });
        lines.extend(self.violations.iter().map(|text| format!("  {text}")));
        if self.violation_count > 0 {
            lines.push(format!("again      {}", self.again));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Whether all of it held.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        match self.violation_count {
            0 => Ok(()),
            1 => Err(CliError::Incomplete("1 violation".to_owned())),
            count => Err(CliError::Incomplete(format!("{count} violations"))),
        }
    }
}
