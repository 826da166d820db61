//! What a run found, for people.

use std::fmt::Write;

use homa_core::CutoffSource;

use crate::{files::RunDocument, run::Outcome};

/// What a run was, then its outcome, tables, and what to read with care.
pub fn render(document: &RunDocument<'_>, outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = header(&mut text, outcome);
    text.push_str(&document.text());
    text
}

fn header(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let link = &outcome.link;
    writeln!(
        text,
        "links of {} Mbit/s, round trip {:.0} µs, timers {:.0} µs late; {:.1} RPC/s per calling host, mean {:.0} bytes",
        link.rate_mbps,
        link.rtt_us,
        link.timer_us,
        outcome.rpc_per_s,
        outcome.sizes.mean_bytes()
    )?;
    let homa = &outcome.homa;
    let cutoffs = match &homa.priorities.cutoffs {
        CutoffSource::Fixed(cutoffs)
            if cutoffs.levels()[1..].iter().any(|it| *it != cutoffs.levels()[1]) =>
        {
            format!(", cutoffs {:?}", cutoffs.levels())
        }
        _ => String::new(),
    };
    writeln!(
        text,
        "Homa: {} B unscheduled, window {} B, {} B incoming at most, overcommitment {}, backlog {} µs, {} levels{cutoffs}\n",
        homa.unscheduled.bytes,
        homa.grants.window_bytes,
        homa.grants.max_incoming_bytes,
        homa.grants.max_overcommit,
        homa.output.max_nic_backlog.as_micros(),
        homa.priorities.count,
    )
}
