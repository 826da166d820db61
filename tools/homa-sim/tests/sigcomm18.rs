//! The published evaluation, on 16 hosts and with few messages.

use std::ops::ControlFlow;

use homa_sim::{
    Outcome,
    reproduce::{
        published,
        sigcomm18::{self, Messages, Pacing, Profile, Row, gather_rows, rows},
    },
};

/// A run of a published workload with the parameters of the paper.
fn run(name: &str, count: u32, seed: u64) -> Outcome {
    run_with(Profile::Paper, name, count, seed)
}

fn run_with(profile: Profile, name: &str, count: u32, seed: u64) -> Outcome {
    let messages = Messages::published(name).unwrap();
    let config = profile.config(&messages, Pacing::Nic);
    let run = sigcomm18::run(messages.sizes, config, 1, published::LOAD, count, seed);
    let outcome = run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(!outcome.stuck, "messages never arrived");
    assert_eq!((outcome.failed, outcome.samples.unfinished), (0, 0));
    outcome
}

fn compared(name: &str, outcome: &Outcome) -> Vec<Row> {
    let classes = published::sigcomm18("homa", name, published::LOAD);
    gather_rows(&rows(&outcome.samples, &classes), 9.0)
}

/// The mean of a figure over the smaller half of the messages, weighted by their shares.
fn smaller_half(rows: &[Row], of: impl Fn(&Row) -> f64) -> f64 {
    let (mut percent, mut sum) = (0.0, 0.0);
    for row in rows {
        if percent < 50.0 {
            sum += of(row) * row.class.count_percent;
            percent += row.class.count_percent;
        }
    }
    sum / percent
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let [first, again, other] = [1, 1, 2].map(|seed| run("w2", 5_000, seed));
    assert_eq!((&first.samples, first.counts), (&again.samples, again.counts));
    assert_eq!(first.ports, again.ports);
    assert_ne!(first.samples, other.samples);
}

#[test]
fn on_an_idle_network_messages_of_a_packet_take_the_time_computed() {
    let messages = Messages::of(Messages::published("w1").unwrap().sizes.capped(1_000));
    let config = Profile::Paper.config(&messages, Pacing::Nic);
    let run = sigcomm18::run(messages.sizes, config, 2, 1e-4, 2_000, 1);
    let outcome = run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    let slow = outcome.samples.all().iter().filter(|sample| sample.slowdown > 1.001).count();
    // A few meet another message all the same.
    assert!(slow < 20, "{slow} of {}", outcome.samples.all().len());
    assert!(outcome.samples.all().iter().all(|sample| sample.slowdown > 0.999));
}

// Of the seeds 1 to 10 the P99 is 0.96 to 0.97 times the published one (W3), 0.97 to 0.99 (W4) and
// 0.87 to 0.90 (W5) with the parameters of the paper, and 0.97 to 0.98, 0.96 to 0.99 and 0.84 to
// 0.88 with the defaults.
#[test]
#[ignore = "for optimized builds: ./test.sh runs it"]
fn short_messages_are_as_fast_as_published_and_none_below_200_kb_starves() {
    let (paper, default) = (Profile::Paper, Profile::Default);
    for (profile, name, count, most) in [
        (paper, "w3", 100_000, 1.1),
        (paper, "w4", 20_000, 1.1),
        (paper, "w5", 4_000, 1.0),
        (default, "w3", 100_000, 1.1),
        (default, "w4", 20_000, 1.1),
        (default, "w5", 4_000, 1.0),
    ] {
        let outcome = run_with(profile, name, count, 1);
        let rows = compared(name, &outcome);
        let ours = smaller_half(&rows, |row| row.slowdown.p99);
        let published = smaller_half(&rows, |row| row.class.published.unwrap().p99);
        let told = format!("{profile:?}, {name}: P99 {ours:.2}, published {published:.2}");
        assert!(ours < most * published, "{told}");
        let worst = outcome.samples.between(0, 200_000).iter();
        let worst = worst.map(|sample| sample.slowdown).fold(0.0, f64::max);
        assert!(worst < 100.0, "{told}: slowdown {worst:.0} of a message below 200 kB");
    }
}
