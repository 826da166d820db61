//! Why figures of a run may say more of the machine than of the transports.

use crate::{
    compare::{CARRIED, FAMILIES, comparisons},
    comparison::Verdict,
    format::{percent, thousands, time_us, trimmed},
    run::{Measured, Run},
    stats::{samples_for_interval, samples_needed},
    summary::{Summary, TransportDocument},
};

/// Busier than this, the machine's processors are what RPCs wait for.
pub(crate) const BUSY_MAX: f64 = 0.9;

/// Less carried of the offered load than this is worth a word; RPCs under way at the ends make a
/// few per cent.
const CARRIED_MIN: f64 = 0.95;

/// Beginning late by more than this share of the median time distorts the times of short messages.
const LAG_MAX: f64 = 0.1;

/// Samples of throughput above so many times the rate of the links are none.
const RATE_MAX: f64 = 1.1;

/// What a reader must know before believing a run, most important first.
pub(crate) fn doubts(run: &Run) -> Vec<String> {
    let all: Vec<&TransportDocument> =
        run.transports.iter().map(|transport| &transport.document).collect();
    let mut found = Vec::new();
    found.extend(missing(run));
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
        (summary.rpcs > 0 && count < samples_for_interval(0.99)).then(|| thousands(count as f64))
    };
    found.extend(named(&all, few, "Few short messages:").map(|text| {
        format!(
            "{text} P99 needs {}, and {} for the interval that says how far chance moves it; more rounds or seconds give more.",
            samples_needed(0.99),
            samples_for_interval(0.99)
        )
    }));
    let below = |summary: &Summary| {
        let average = summary.slowdown().average;
        (average < 1.0).then(|| trimmed(average, 2))
    };
    let own = run.transports.iter().filter(|one| run.is_own_reference(one));
    let own: Vec<&TransportDocument> = own.map(|one| &one.document).collect();
    found.extend(named(&own, below, "Average slowdown below 1:").map(|text| {
        format!(
            "{text} Under load nothing is faster than on the idle network; the unloaded times that it is relative to were \
             measured while the machine was disturbed, and all slowdowns of this run are too small."
        )
    }));
    found.extend(too_fast(run));
    for transport in &all {
        let failures = transport.summary.failures.iter();
        found.extend(failures.map(|failure| format!("{}: {failure}.", transport.name)));
    }
    found
}

/// What the plan has and the run has not.
fn missing(run: &Run) -> Option<String> {
    let rounds = run.document.number("/load/rounds").map_or(0, |rounds| rounds as usize);
    let word = |transport: &Measured| {
        let (name, done) = (&transport.document.name, transport.figures.rounds.len());
        match transport.document.summary.rpcs {
            0 => Some(name.clone()),
            _ if done > 0 && done < rounds => Some(format!("{name} ({done} of {rounds} rounds)")),
            _ => None,
        }
    };
    let without = run.document.not_measured.iter().map(|one| match one.reasons.is_empty() {
        true => one.name.clone(),
        false => format!("{} ({})", one.name, one.reasons.join("; ")),
    });
    let names: Vec<String> = run.transports.iter().filter_map(word).chain(without).collect();
    match (run.document.interrupted, names.is_empty()) {
        (true, true) => Some("The run was interrupted after all had been measured.".to_owned()),
        (true, false) => Some(format!(
            "The run was interrupted. Not or not wholly measured: {}.",
            names.join(", ")
        )),
        (false, true) => None,
        (false, false) => Some(format!("Not or not wholly measured: {}.", names.join(", "))),
    }
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
fn unresolved(run: &Run) -> Vec<String> {
    let of = |verdict: Verdict| {
        let mut found = Vec::new();
        for family in FAMILIES {
            for (homa, comparisons) in comparisons(run, family) {
                // Of the load carried, no difference is what should be.
                let those = comparisons
                    .iter()
                    .filter(|one| one.verdict == verdict && one.figure != CARRIED);
                let names: Vec<&str> = those.map(|comparison| comparison.figure).collect();
                if !names.is_empty() {
                    found.push(format!("{homa} and {}: {}", family.name, names.join(", ")));
                }
            }
        }
        found.join("; ")
    };
    let words = [
        (
            Verdict::Unresolved,
            "Differences below what this run tells apart, of which it says nothing:",
        ),
        (Verdict::Undecided, "Differences that may be chance, or that single rounds contradict:"),
    ];
    let sentence = |(verdict, words): (Verdict, &str)| {
        Some(of(verdict)).filter(|names| !names.is_empty()).map(|names| format!("{words} {names}."))
    };
    words.into_iter().filter_map(sentence).collect()
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
