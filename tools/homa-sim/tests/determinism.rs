//! The same seed gives the same run: in debug and release builds, on every machine, beside any
//! number of other runs, and after a change that alters no behaviour.
//!
//! A change that alters what is sent, or when, writes the digests anew with `HOMA_DIGESTS=write`.

use std::{ops::ControlFlow, path::Path, thread};

use homa_sim::{
    Demand, Run, Topology,
    reproduce::sigcomm18::{self, Messages, Pacing, Profile},
    transport::{
        Choice,
        tcp::{Algorithm, Settings},
    },
};

const RECORDED: &str = include_str!("digests.txt");
const LOAD: f64 = 0.8;
const SEED: u64 = 5;

/// Messages of a workload between two racks.
fn homa(workload: &str, count: u32, profile: Profile, pacing: Pacing) -> Run {
    let messages = Messages::published(workload).unwrap();
    let config = profile.config(&messages, pacing);
    sigcomm18::run(messages.sizes, config, 2, LOAD, count, SEED)
}

fn dctcp() -> Run {
    Run {
        topology: Topology::sigcomm18(2),
        sizes: Messages::published("w3").unwrap().sizes,
        load: LOAD,
        messages: 1_000,
        demand: Demand::default(),
        transport: Choice::Tcp(Box::new(Settings::new(Algorithm::Dctcp))),
        seed: SEED,
    }
}

fn runs() -> [(&'static str, Run); 4] {
    [
        ("homa-w1", homa("w1", 2_000, Profile::Paper, Pacing::Nic)),
        ("homa-w4", homa("w4", 100, Profile::Paper, Pacing::Nic)),
        ("homa-w3-default-clock", homa("w3", 1_000, Profile::Default, Pacing::Clock)),
        ("dctcp-w3", dctcp()),
    ]
}

/// Who sent what, and when it left and came: FNV-1a over the messages.
fn digest(run: &Run) -> u64 {
    let outcome = run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |value: u64| {
        for byte in value.to_le_bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    for message in &outcome.messages {
        for value in [message.from.0, message.to.0, message.bytes] {
            add(value.into());
        }
        for time in [message.begun, message.first_sent, message.last_sent, message.ended] {
            add(time.as_ps());
        }
    }
    add(outcome.counts.packets);
    digest
}

fn digests() -> Vec<String> {
    runs().iter().map(|(name, run)| format!("{name} {:016x}", digest(run))).collect()
}

#[test]
fn runs_are_as_recorded_whatever_was_built_and_whatever_runs_beside_them() {
    let (one, two) = thread::scope(|scope| {
        let [one, two] = [(); 2].map(|()| scope.spawn(digests));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one, two);
    if std::env::var("HOMA_DIGESTS").is_ok_and(|value| value == "write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digests.txt");
        return std::fs::write(path, one.join("\n") + "\n").unwrap();
    }
    let recorded: Vec<_> = RECORDED.lines().collect();
    assert_eq!(one, recorded, "if this is meant, write them anew with HOMA_DIGESTS=write");
}
