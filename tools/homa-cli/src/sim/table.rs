//! Published figures beside ours, for a terminal.

use std::fmt::Write;

use homa_report::table::table;
use homa_sim::{PortKind, reproduce::sigcomm18::Row};

use super::point::{Done, Slow};
use crate::units::format_size;

/// All workloads, each with a table and a line about queues.
pub(super) fn render(done: &[Done<'_>]) -> String {
    let mut text = String::new();
    for done in done {
        text.push_str(&headline(done));
        let header = [
            "up to",
            "messages",
            "P50",
            "published",
            "ratio",
            "P99",
            "published",
            "ratio",
            "pooled",
        ];
        let rows = done.rows().iter().map(cells).collect();
        text.push_str(&table(header.map(str::to_owned).to_vec(), rows, &[]));
        for port in done.outcome.ports.iter().filter(|port| port.kind == PortKind::RackDown) {
            // A `String` takes everything.
            let _ = writeln!(
                text,
                "\nQueues of switches to hosts: {:.0} bytes on average, {} at most; links {:.0} % busy\n",
                port.queued_bytes_mean,
                port.queued_bytes_max,
                100.0 * port.utilization
            );
        }
        text.push_str(&slowest(done));
    }
    text
}

/// What was simulated.
fn headline(done: &Done<'_>) -> String {
    let (name, run) = (&done.point.name, &done.point.run);
    let (transport, hosts) = (run.transport.name(), run.topology.hosts());
    format!("{name}, {transport}: {hosts} hosts, {} messages, load {}\n\n", run.messages, run.load)
}

/// Where the time of the slowest messages of all points went.
pub(super) fn explain(done: &[Done<'_>]) -> String {
    done.iter().map(|done| headline(done) + &slowest(done)).collect()
}

/// Where the time of the slowest messages went; nothing if none is wanted.
fn slowest(done: &Done<'_>) -> String {
    let slowest = done.slowest();
    if slowest.is_empty() {
        return String::new();
    }
    let header =
        ["size", "from", "to", "begun", "slowdown", "others", "grants", "sending", "queues", "way"];
    let rows = slowest.iter().map(places_of_time).collect();
    table(header.map(str::to_owned).to_vec(), rows, &[]) + TIMES
}

/// What the times of the slowest messages mean.
const TIMES: &str = "
Times in µs. At the sender: it sent others, had to wait for GRANTs, sent this one. Then of the packet
that came last: queues that it waited in, the rest of its way.

";

fn places_of_time(slow: &Slow) -> Vec<String> {
    let queues = slow.queues.iter().map(|waited| waited.us).sum();
    let times = [
        slow.begun_us,
        slow.slowdown,
        slow.others_us,
        slow.grants_us,
        slow.sending_us,
        queues,
        slow.way_us,
    ];
    [format_size(slow.message_bytes.into()), slow.from.to_string(), slow.to.to_string()]
        .into_iter()
        .chain(times.map(|time| format!("{time:.1}")))
        .collect()
}

fn cells(row: &Row) -> Vec<String> {
    let beside = |ours: f64, published: Option<f64>| {
        let published = published.map_or([String::new(), String::new()], |published| {
            [format!("{published:.2}"), format!("{:.2}", ours / published)]
        });
        [vec![format!("{ours:.2}")], published.to_vec()].concat()
    };
    let published = row.class.published;
    [
        vec![format_size(row.class.message_bytes.into()), row.messages.to_string()],
        beside(row.slowdown.p50, published.map(|published| published.p50)),
        beside(row.slowdown.p99, published.map(|published| published.p99)),
        vec![format!("{:.2}", row.pooled.p99)],
    ]
    .concat()
}
