//! The Wireshark dissector reads every recorded packet as the decoder does, field by field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness;
use serde_json::Value;

/// Fields of the dissector, and the name of each in our records.
const FIELDS: [(&str, &str); 27] = [
    ("homa.srcport", "source_port"),
    ("homa.dstport", "destination_port"),
    ("homa.sequence", "sequence"),
    ("homa.incarnation", "incarnation"),
    ("homa.type", "type"),
    ("homa.doff", "doff"),
    ("homa.flags", "flags"),
    ("homa.window", "window"),
    ("homa.checksum", "checksum"),
    ("homa.urgent", "urgent"),
    ("homa.sender_id", "sender_id"),
    ("homa.rpc", "rpc"),
    ("homa.packet_bytes", "packet_bytes"),
    ("homa.message_length", "message_length"),
    ("homa.incoming", "incoming"),
    ("homa.cutoff_version", "cutoff_version"),
    ("homa.retransmit", "retransmit"),
    ("homa.echo", "echo"),
    ("homa.seg_offset", "seg_offset"),
    ("homa.offset", "offset"),
    ("homa.payload_bytes", "payload_bytes"),
    ("homa.length", "length"),
    ("homa.priority", "priority"),
    ("homa.num_acks", "num_acks"),
    ("homa.cutoff", "cutoffs"),
    ("homa.ack.client_id", "acks.client_id"),
    ("homa.ack.server_port", "acks.server_port"),
];

fn dissector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/wireshark/homa.lua")
}

/// Whether tshark is there; where everything must run it has to be.
fn has_tshark() -> bool {
    let there = Command::new("tshark").arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "tshark is missing");
    if !there {
        println!("SKIPPED: tshark is not installed");
    }
    there
}

/// What tshark says of a file: one list of values per frame and field.
fn tshark(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-X").arg(format!("lua_script:{}", dissector().display()));
    command.arg("-r").arg(file).args(["-T", "fields", "-E", "occurrence=a", "-E", "separator=/t"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("Lua"), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// A value of ours as tshark writes it, several joined by commas.
fn ours(record: &Value, name: &str) -> String {
    let values: Vec<&Value> = match name.split_once('.') {
        Some((list, name)) => {
            record[list].as_array().into_iter().flatten().map(|item| &item[name]).collect()
        }
        None => match &record[name] {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        },
    };
    let number = |value: &&Value| match value {
        Value::Null => None,
        Value::String(text) => Some(code(text).unwrap_or_else(|| text.clone())),
        value => Some(value.to_string()),
    };
    values.iter().filter_map(number).collect::<Vec<_>>().join(",")
}

/// The code of a packet type's name.
fn code(name: &str) -> Option<String> {
    let all = homa_wire::PacketType::ALL;
    let found = all.into_iter().find(|packet_type| packet_type.name() == name);
    found.map(|packet_type| packet_type.code().to_string())
}

/// What tshark writes, with hexadecimal numbers as decimal ones.
fn theirs(text: &str) -> String {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap().to_string(),
        None => text.to_owned(),
    };
    let values: Vec<String> = text.split(',').filter(|text| !text.is_empty()).map(number).collect();
    values.join(",")
}

/// All recordings one after another in one file, since starting tshark takes most of its time.
fn all_recordings(directory: &Path) -> PathBuf {
    let all = directory.join("all.pcapng");
    let mut command = Command::new("mergecap");
    command.arg("-a").arg("-w").arg(&all).args(harness::recordings());
    let output = command.output().expect("mergecap comes with tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    all
}

#[test]
fn tshark_reads_every_field_of_every_recorded_packet_as_we_do_and_finds_nothing_malformed() {
    if !has_tshark() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let all = all_recordings(directory.path());
    let mut fields: Vec<&str> = vec!["frame.number", "_ws.expert.severity", "_ws.malformed"];
    fields.extend(FIELDS.map(|(field, _)| field));
    let rows: BTreeMap<u64, Vec<String>> =
        tshark(&all, &fields).into_iter().map(|row| (row[0].parse().unwrap(), row)).collect();
    let records = harness::records(&all);
    assert!(records.len() > 10_000);
    for record in records.iter().filter(|record| record["kind"] == "packet") {
        compare(record, &rows[&record["frame"].as_u64().unwrap()][3..]);
    }
    for row in rows.values() {
        // A warning is 0x600000, an error 0x800000.
        let severity = theirs(&row[1]);
        let worst = severity.split(',').filter_map(|text| text.parse::<u64>().ok()).max();
        assert!(worst.unwrap_or(0) < 0x60_0000, "{row:?}");
        assert!(row[2].is_empty(), "{row:?}");
    }
    let packets = rows.values().filter(|row| !row[7].is_empty()).count();
    let homa = records.iter().filter(|record| {
        // The quotation in an ICMP error is dissected too, if it is long enough.
        record["kind"] == "packet" || !record["icmp"]["quoted_type"].is_null()
    });
    assert_eq!(packets, homa.count());
}

/// All fields of a packet.
fn compare(record: &Value, row: &[String]) {
    // tshark shows no entries of an ACK that the recorder cut.
    let whole = record["header_whole"] == true;
    for ((field, name), text) in FIELDS.iter().zip(row) {
        if whole || !(name.starts_with("acks") || *name == "num_acks") {
            assert_eq!(ours(record, name), theirs(text), "{record} {field}");
        }
    }
}
