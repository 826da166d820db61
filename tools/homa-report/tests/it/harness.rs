//! Run directories as `homa bench cluster` writes them, with numbers made up from a seed.

use std::{fmt::Write, fs, path::Path};

use serde_json::{Value, json};

/// Names of the transports, Homa not first.
pub(crate) const TRANSPORTS: [&str; 3] = ["tcp-cubic", "homa-udp", "tcp-bbr-x8"];

/// Writes a whole run with so many RPCs per transport and round.
pub(crate) fn write_run(directory: &Path, rpcs: u64, change: impl FnOnce(&mut Value)) {
    fs::create_dir_all(directory).unwrap();
    let mut document = document();
    change(&mut document);
    fs::write(directory.join("run.json"), document.to_string()).unwrap();
    fs::write(directory.join("rpcs.csv"), rpcs_csv(rpcs)).unwrap();
    fs::write(directory.join("queues.csv"), queues_csv()).unwrap();
    fs::write(directory.join("throughput.csv"), throughput_csv()).unwrap();
}

/// `run.json` of a run.
pub(crate) fn document() -> Value {
    json!({
        "schema": 1,
        "plan": {
            "title": "Homa and TCP",
            "expect": "Short messages of Homa wait for nobody.",
            "published": ["P99 of short messages 7 to 83 times lower"],
            "network": { "hosts": 6, "rate": "100M", "kind": "lab" },
            "load": { "workload": "w4", "load": 0.8, "warm_up": 0.5, "secs": 2.0, "rounds": 2 },
        },
        "variant": "",
        "command": ["homa", "bench", "cluster", "--workload", "w4"],
        "machine": { "cores": 2, "kernel": "6.18" },
        "network": { "kind": "lab", "backend": "switch" },
        "fidelity": { "latency_resolution_ns": 40_000, "rate_resolution": 0.01 },
        "derived": { "link": { "rate_mbps": 100, "rtt_us": 30.5 }, "homa": { "cutoffs": [1, 2, 3] } },
        "interrupted": false,
        "transports": TRANSPORTS.iter().map(|name| transport(name)).collect::<Vec<_>>(),
    })
}

fn transport(name: &str) -> Value {
    let factor = if name == "homa-udp" { 1.0 } else { 12.0 };
    let slowdown = |p99: f64| json!({ "average": p99 / 3.0, "p50": p99 / 6.0, "p99": p99, "p999": null, "p99_average": p99 });
    let deciles: Vec<Value> = (1..=10)
        .map(|part| json!({ "size_bytes": part * part * 100, "slowdown_homa": slowdown(3.0 * factor) }))
        .collect();
    json!({
        "name": name,
        "summary": {
            "rpcs": 10_000,
            "offered_mbps": 40.0,
            "goodput_mbps": 39.5,
            "short": { "count": 1_000, "p50_us": 60.0 * factor, "p99_us": 200.0 * factor, "p999_us": 300.0 * factor },
            "short_bytes_max": 300,
            "slowdown_homa": slowdown(4.0 * factor),
            "deciles": deciles,
            "machine_busy": 0.5,
            "queue_mean_bytes": 20_000.0,
        },
        "unloaded": [
            { "size_bytes": 64, "min_ns": 20_000, "p50_ns": 30_000, "p90_ns": 40_000 },
            { "size_bytes": 1_000_000, "min_ns": 80_000_000, "p50_ns": 90_000_000, "p90_ns": 95_000_000 },
        ],
    })
}

fn rpcs_csv(count: u64) -> String {
    let mut text =
        "transport,round,client,server,size_bytes,start_ns,latency_ns,status\n".to_owned();
    let mut state = 1_u64;
    for name in TRANSPORTS {
        let factor = if name == "homa-udp" { 1 } else { 12 };
        for index in 0..count * 2 {
            // A linear congruential generator: quick, and the same everywhere.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let random = state >> 40;
            let size = 64 + random % 97 * (random % 89) * (random % 83);
            let latency_ns = 30_000 + size * 90 + (random % 1_000).pow(2) * factor;
            let start_ns = 600_000_000 + index * 100;
            let _ = writeln!(text, "{name},{},0,1,{size},{start_ns},{latency_ns},ok", index % 2);
        }
    }
    text
}

fn queues_csv() -> String {
    let mut text = "transport,round,time_ns,port,level,bytes\n".to_owned();
    for name in TRANSPORTS {
        for (round, moment, port, level) in grid(2, 25, 3, 8) {
            let time_ns = moment * 100_000_000 + round * 500_000;
            let bytes = (moment % 7) * 3_000 / (level + 1);
            let _ = writeln!(text, "{name},{round},{time_ns},{port},{level},{bytes}");
        }
    }
    text
}

fn throughput_csv() -> String {
    let mut text = "transport,round,time_ns,host,rx_bps\n".to_owned();
    for name in TRANSPORTS {
        for (round, moment, host, _) in grid(2, 25, 3, 1) {
            let bps = 78_000_000 + (moment * 7_919 + host) % 5 * 1_000_000;
            let _ = writeln!(text, "{name},{round},{},{host},{bps}", (moment + 1) * 100_000_000);
        }
    }
    text
}

fn grid(a: u64, b: u64, c: u64, d: u64) -> impl Iterator<Item = (u64, u64, u64, u64)> {
    (0..a * b * c * d).map(move |n| (n / (b * c * d), n / (c * d) % b, n / d % c, n % d))
}
