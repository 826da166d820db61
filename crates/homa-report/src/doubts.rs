//! Why figures of a run may say more of the machine than of the transports.

use crate::{
    compare::{CARRIED, FAMILIES, Verdict, comparisons},
    document::{Summary, TransportDocument},
    format::{percent, thousands, time_us},
    run::{Measured, Run},
};

/// Busier than this, the machine's processors are what RPCs wait for.
const BUSY_MAX: f64 = 0.9;

/// Less carried of the offered load than this is worth a word; RPCs under way at the ends make a few per cent.
const CARRIED_MIN: f64 = 0.95;

/// Beginning late by more than this share of the median time distorts the times of short messages.
const LAG_MAX: f64 = 0.1;

/// Fewer short messages than this have no 99.9th percentile.
const SHORT_MIN: u64 = 1_000;

/// Samples of throughput above so many times the rate of the links are none.
const RATE_MAX: f64 = 1.1;

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
            "Less was carried than offered:",
        )
        .map(|text| format!("{text} Either it was too much, and times grow with the length of the run, or the run was so short that \
                 RPCs under way at its end count.")),
    );
    let late = |summary: &Summary| {
        (summary.lag_p99_us > LAG_MAX * summary.short.p50_us).then(|| time_us(summary.lag_p99_us))
    };
    found.extend(
        named(&all, late, "RPCs began late, one in a hundred by this time or more:")
            .map(|text| format!("{text} It counts as their time, and is the machine's doing.")),
    );
    found.extend(saturates(run));
    found.extend(unresolved(run));
    let lost = |summary: &Summary| {
        let count = summary.unfinished + summary.failed;
        (count > 0).then(|| thousands(count as f64))
    };
    found.extend(
        named(&all, lost, "RPCs without a good end:")
            .map(|text| format!("{text} They count with the time until the run gave up.")),
    );
    let few = |summary: &Summary| {
        let count = summary.short.count;
        (1..SHORT_MIN).contains(&count).then(|| thousands(count as f64))
    };
    found.extend(named(&all, few, "Few short messages:").map(|text| {
        format!("{text} P99.9 of fewer than 1,000, and P99 of fewer than 100, is the slowest one.")
    }));
    found.extend(too_fast(run));
    for transport in &all {
        let failures = transport.summary.failures.iter();
        found.extend(failures.map(|failure| format!("{}: {failure}.", transport.name)));
    }
    found
}

/// The load came near to what the emulation carries without any program under test.
fn saturates(run: &Run) -> Option<String> {
    let network = &run.document.network;
    let number = |pointer| network.pointer(pointer).and_then(serde_json::Value::as_f64);
    let (carries, expected) =
        (number("/saturation/packets_per_s")?, number("/expected/packets_per_s")?);
    (network.get("comfortable")?.as_bool() == Some(false)).then(|| {
        format!(
            "The emulation saturates at {} packets/s, and {} were to be expected: there is little left for the transports \
             themselves. Offer less, or use slower links or fewer hosts.",
            thousands(carries),
            thousands(expected)
        )
    })
}

/// Figures of which this run does not say who is better.
fn unresolved(run: &Run) -> Option<String> {
    let mut found = Vec::new();
    for family in FAMILIES {
        for (homa, comparisons) in comparisons(run, family) {
            let unresolved = comparisons.iter().filter(|one| {
                // Of the load carried, no difference is what should be.
                one.verdict == Verdict::Unresolved && one.figure != CARRIED
            });
            let names: Vec<&str> = unresolved.map(|comparison| comparison.figure).collect();
            if !names.is_empty() {
                found.push(format!("{homa} and {}: {}", family.name, names.join(", ")));
            }
        }
    }
    (!found.is_empty()).then(|| {
        format!(
            "Differences below what this run tells apart, of which it says nothing: {}.",
            found.join("; ")
        )
    })
}

/// Samples above the rate of the links, which no link carried.
fn too_fast(run: &Run) -> Option<String> {
    let limit = run.document.rate_mbps()? * RATE_MAX;
    let fast = |transport: &&Measured| transport.rates.iter().any(|point| point.mean_mbps > limit);
    let names: Vec<&str> =
        run.transports.iter().filter(fast).map(|found| found.document.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "Throughput above the rate of the links with {}: the machine was late to look at the counters. What is too \
             much at one look is missing at the one before.",
            names.join(", ")
        )
    })
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
