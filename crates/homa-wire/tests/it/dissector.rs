//! The dissector for Wireshark has the same packet types, fields, reasons and constants.

use std::collections::BTreeMap;
use std::path::Path;

use homa_wire::{
    ACKS_MAX, COMMON_HEADER_BYTES, Data, EXTENSION_BYTES, FLAGS, IP_PROTOCOL, IP_PROTOCOL_TCP,
    PacketType, Reason, URGENT, VERSION, VERSION_MAGIC,
};

fn script() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/wireshark/homa.lua");
    std::fs::read_to_string(path).unwrap()
}

/// What lies between `from` and the next `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from:?}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no {to:?} behind {from:?}")).0
}

fn number(text: &str) -> usize {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// The numbers that the script gives names: `local NAME = 1` and `local NAME, OTHER = 1, 2`.
fn constants(script: &str) -> BTreeMap<String, usize> {
    let upper = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let assignments =
        script.lines().filter_map(|line| line.strip_prefix("local ")?.split_once('='));
    let pairs = assignments.flat_map(|(names, values)| names.split(',').zip(values.split(',')));
    let named = pairs.filter(|(name, value)| upper(name.trim()) && !value.contains('{'));
    named.map(|(name, value)| (name.trim().to_owned(), number(value))).collect()
}

/// The entries of a table: `local NAME = { [KEY] = VALUE, ... }`.
fn table(script: &str, name: &str) -> BTreeMap<usize, String> {
    let constants = constants(script);
    let entries = between(script, &format!("local {name} = {{"), "\n}").split('[').skip(1);
    let entry = |entry: &str| {
        let (key, value) = entry.split_once("] = ").expect(entry);
        let key = constants.get(key).copied().unwrap_or_else(|| number(key));
        (key, value.trim().trim_end_matches(',').trim_matches('"').to_owned())
    };
    entries.map(entry).collect()
}

#[test]
fn the_dissector_has_the_same_packet_types() {
    let script = script();
    let (names, lengths) = (table(&script, "NAMES"), table(&script, "HEADER_BYTES"));
    for packet_type in PacketType::ALL {
        let code = usize::from(packet_type.code());
        assert_eq!(names.get(&code).map(String::as_str), Some(packet_type.name()));
        assert_eq!(lengths.get(&code), Some(&packet_type.header_bytes().to_string()));
    }
    assert_eq!((names.len(), lengths.len()), (PacketType::ALL.len(), PacketType::ALL.len()));
}

#[test]
fn the_dissector_shows_every_field_at_its_place() {
    let script = script();
    let bodies: Vec<&str> = script.split("\nbodies[").skip(1).collect();
    for packet_type in PacketType::ALL {
        let body = bodies.iter().find_map(|body| body.strip_prefix(packet_type.name()));
        let body = body.map_or("", |body| body.split("\nend").next().unwrap());
        for field in packet_type.fields() {
            let at = COMMON_HEADER_BYTES + field.at;
            let ways = [
                format!("tvb({at}, {})", field.bytes),
                format!("tvb({at} + 4 * level, 4)"),
                format!("add_ack(tvb, tree, {at})"),
                format!("add_ack(tvb, tree, {at} + 10 * index)"),
            ];
            let shown = ways.iter().any(|way| body.contains(way.as_str()));
            assert!(shown, "{packet_type} has {} at {at}", field.name);
        }
    }
}

#[test]
fn the_dissector_has_the_same_reasons() {
    let reasons = table(&script(), "REASONS");
    let expected = Reason::KNOWN.iter().map(|reason| (reason.code(), reason.meaning()));
    let expected: Vec<_> =
        expected.map(|(code, meaning)| (usize::from(code), meaning.to_owned())).collect();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn the_dissector_has_the_same_constants() {
    let constants = constants(&script());
    for (name, value) in [
        ("IP_PROTOCOL_HOMA", usize::from(IP_PROTOCOL)),
        ("IP_PROTOCOL_TCP", usize::from(IP_PROTOCOL_TCP)),
        ("COMMON_BYTES", COMMON_HEADER_BYTES),
        ("FLAGS", usize::from(FLAGS)),
        ("URGENT", usize::from(URGENT)),
        ("MAGIC", usize::from(VERSION_MAGIC)),
        ("VERSION", usize::from(VERSION)),
        ("OFFSET_IN_SEQUENCE", homa_wire::OFFSET_IN_SEQUENCE as usize),
        ("RESEND_ALL", homa_wire::RESEND_ALL as usize),
        ("ACKS_MAX", ACKS_MAX),
        ("EXTENSION_BYTES", EXTENSION_BYTES),
        ("RETRANSMISSION", usize::from(Data::RETRANSMISSION)),
        ("FRAMED", usize::from(Data::FRAMED)),
        ("OPEN", usize::from(Data::OPEN)),
    ] {
        assert_eq!(constants.get(name), Some(&value), "{name}");
    }
}
