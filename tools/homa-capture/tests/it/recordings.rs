//! Packets recorded from the Linux implementation are all explained, and none is called a
//! violation.

use std::collections::BTreeMap;

use crate::harness;
use homa_capture::{Check, Severity, State, What, meaning};
use homa_wire::PacketType;

/// Packets of each type that the README says a recording holds, by file name.
fn described() -> BTreeMap<String, BTreeMap<String, u64>> {
    let directory = harness::recordings()[0].parent().unwrap().to_owned();
    let text = std::fs::read_to_string(directory.join("README.md")).unwrap();
    let mut described = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("- `")) {
        let name = line.split('`').nth(1).unwrap().to_owned();
        let counts = line.rsplit("Packets: ").next().unwrap().trim_end_matches('.');
        let counts = counts.split(", ").map(|pair| {
            let (name, count) = pair.split_once(' ').unwrap();
            let name = if name == "UNKNOWN" { "RPC_UNKNOWN" } else { name };
            (name.to_owned(), count.parse().unwrap())
        });
        described.insert(name, counts.collect());
    }
    described
}

#[test]
fn every_packet_is_counted_as_the_recordings_descriptions_say() {
    let described = described();
    for path in harness::recordings() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let analysis = harness::explain(&path, |_| {});
        let totals = analysis.totals();
        let mut counts: BTreeMap<String, u64> = PacketType::ALL
            .iter()
            .zip(totals.packets)
            .filter(|(_, count)| *count > 0)
            .map(|(packet_type, count)| (packet_type.name().to_owned(), count))
            .collect();
        if totals.icmp_errors > 0 {
            counts.insert("ICMP".to_owned(), totals.icmp_errors);
        }
        assert_eq!(Some(&counts), described.get(name), "{name}");
        assert_eq!(totals.other_frames, 0, "{name}");
        assert!(totals.bad.is_empty(), "{name}: {:?}", totals.bad);
    }
}

#[test]
fn no_recorded_packet_is_called_a_violation_and_all_belong_to_an_rpc() {
    for path in harness::recordings() {
        harness::explain(&path, |observation| {
            let violations: Vec<_> = observation
                .findings
                .iter()
                .filter(|finding| finding.check.severity() == Severity::Violation)
                .collect();
            assert!(violations.is_empty(), "{}: {observation:?}", path.display());
            assert!(!meaning(observation).is_empty());
            assert!(!matches!(observation.what, What::Bad(_)), "{observation:?}");
            assert!(observation.rpc.is_some(), "{}: {observation:?}", path.display());
        });
    }
}

#[test]
fn what_became_of_each_rpc_is_what_the_descriptions_say() {
    for path in harness::recordings() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let analysis = harness::explain(&path, |_| {});
        let expected = match name {
            "lossy-ip4-silent-server.pcap" | "lossy-ip4-unreachable-server.pcap" => "unfinished",
            name if name.starts_with("no-server-port")
                || name.starts_with("server-closed")
                || name == "client-gone-ip4-large-response.pcap" =>
            {
                "failed"
            }
            // Also of "client-gone-ip4": the response was sent, only the question for its
            // acknowledgement found nobody.
            _ => "complete",
        };
        for rpc in analysis.follow().rpcs() {
            let state = match rpc.state() {
                State::Complete => "complete",
                State::Failed(_) => "failed",
                State::Unfinished => "unfinished",
            };
            assert_eq!(state, expected, "{name}: {rpc:?}");
            if let State::Failed(failure) = rpc.state() {
                assert_eq!(homa_capture::failure(failure), "port unreachable", "{name}");
            }
            assert!(rpc.from_start, "{name}");
        }
    }
}

#[test]
fn losses_show_as_retransmissions_and_as_notes_about_bytes_asked_for_again() {
    let path = |name: &str| harness::recordings()[0].parent().unwrap().join(name);
    let analysis = harness::explain(&path("lossy-ip4-request-middle.pcap"), |_| {});
    let rpc = analysis.follow().rpcs().next().unwrap();
    assert_eq!((rpc.request.retransmitted_packets, rpc.request.repeated_bytes), (1, 1_424));
    assert_eq!((rpc.request.resends, rpc.response.resends, rpc.response.busys), (1, 1, 1));
    let notes: Vec<_> = analysis.totals().findings.iter().collect();
    assert_eq!(notes, [(&Check::ResendOfRecorded, &1)]);

    let analysis = harness::explain(&path("ip4-rpc-60000.pcap"), |_| {});
    let rpc = analysis.follow().rpcs().next().unwrap();
    assert_eq!((rpc.request.unscheduled, rpc.request.granted), (40_000, 60_000));
    assert_eq!(rpc.request.grants + rpc.response.grants, 8);
    assert!(rpc.acknowledged_ns.is_some());
}
