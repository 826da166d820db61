//! Why figures of a run may say more of the machine than of the transports.

use crate::{
    document::{Summary, TransportDocument},
    format::{percent, thousands, time_us},
    run::Run,
};

/// Busier than this, the machine's processors are what RPCs wait for.
const BUSY_MAX: f64 = 0.9;

/// Less carried of the offered load than this is an overload; RPCs at the ends of the window make a few per cent.
const CARRIED_MIN: f64 = 0.95;

/// Beginning late by more than this share of the median time distorts the times of short messages.
const LAG_MAX: f64 = 0.1;

/// What a reader must know before believing a run, most important first.
pub(crate) fn doubts(run: &Run) -> Vec<String> {
    let all: Vec<&TransportDocument> =
        run.transports.iter().map(|transport| &transport.document).collect();
    let mut found = Vec::new();
    if run.document.interrupted {
        found.push("The run was interrupted: it shows what was measured until then.".to_owned());
    }
    found.extend(named(&all, |summary| (summary.rpcs == 0).then(String::new), "No result of"));
    found.extend(
        named(
            &all,
            |summary| (summary.machine_busy > BUSY_MAX).then(|| percent(summary.machine_busy)),
            "The machine's processors were busy all the time with",
        )
        .map(|text| {
            format!("{text} Times are those of the processors as much as those of the links: offer less, or use slower links.")
        }),
    );
    found.extend(
        named(
            &all,
            |summary| (summary.carried() < CARRIED_MIN).then(|| percent(summary.carried())),
            "Overloaded, since less was carried than offered:",
        )
        .map(|text| format!("{text} Times then grow with the length of the run.")),
    );
    let late = |summary: &Summary| {
        (summary.lag_p99_us > LAG_MAX * summary.short.p50_us).then(|| time_us(summary.lag_p99_us))
    };
    found.extend(
        named(&all, late, "RPCs began late, one in a hundred by this time or more:")
            .map(|text| format!("{text} It counts as their time, and is the machine's doing.")),
    );
    let lost = |summary: &Summary| {
        let count = summary.unfinished + summary.failed;
        (count > 0).then(|| thousands(count as f64))
    };
    found.extend(
        named(&all, lost, "RPCs without a good end:")
            .map(|text| format!("{text} They count with the time until the run gave up.")),
    );
    for transport in &all {
        let failures = transport.summary.failures.iter();
        found.extend(failures.map(|failure| format!("{}: {failure}.", transport.name)));
    }
    found
}

/// A sentence that names the transports of which something is true, each with how much.
fn named(
    all: &[&TransportDocument],
    of: impl Fn(&Summary) -> Option<String>,
    beginning: &str,
) -> Option<String> {
    let with = |transport: &&TransportDocument| {
        let words = of(&transport.summary)?;
        Some(if words.is_empty() {
            transport.name.clone()
        } else {
            format!("{} ({words})", transport.name)
        })
    };
    let names: Vec<String> = all.iter().filter_map(with).collect();
    (!names.is_empty()).then(|| format!("{beginning} {}.", names.join(", ")))
}
