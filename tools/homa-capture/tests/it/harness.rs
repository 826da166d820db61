//! What the tests share: the recordings, and packets made by hand.

use std::fs::File;
use std::path::{Path, PathBuf};

use homa_capture::{
    Analysis, CaptureReader, Decoder, LinkType, Observation, PacketRecord, RPCS_MAX, Recorded,
};
use homa_wire::{Body, Common, Data, HEADER_MAX, Header};

/// The recordings of `testdata/captures`, or of the directory that `HOMA_CAPTURES` names.
pub(crate) fn recordings() -> Vec<PathBuf> {
    let directory = std::env::var_os("HOMA_CAPTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures"),
        PathBuf::from,
    );
    let entries = directory.read_dir().expect("the directory of recordings is there");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// Explains a recording and hands out each observation.
pub(crate) fn explain(path: &Path, mut each: impl FnMut(&Observation<'_>)) -> Analysis {
    let mut reader = CaptureReader::new(File::open(path).unwrap()).unwrap();
    let mut analysis = Analysis::new(Decoder::default(), RPCS_MAX);
    while let Some(recorded) = reader.next_frame() {
        let recorded = recorded.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        analysis.frame(&recorded, &mut each);
    }
    analysis
}

/// A recording as JSON values, packet by packet.
pub(crate) fn records(path: &Path) -> Vec<serde_json::Value> {
    let mut records = Vec::new();
    explain(path, |observation| {
        records.push(serde_json::to_value(PacketRecord::new(observation)).unwrap());
    });
    records
}

pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 2];
pub(crate) const CLIENT_PORT: u16 = 40_000;
pub(crate) const SERVER_PORT: u16 = 99;

/// An IPv4 packet of protocol 146, on a raw IP link.
pub(crate) fn ip_packet(source: [u8; 4], destination: [u8; 4], tos: u8, homa: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, tos];
    packet.extend((20 + homa.len() as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 146, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(homa);
    packet
}

/// "Port unreachable" about a packet, from its receiver to its sender.
pub(crate) fn port_unreachable(about: &[u8]) -> Vec<u8> {
    let mut packet = about.to_vec();
    packet.splice(0..0, [3, 3, 0, 0, 0, 0, 0, 0]);
    let (sender, receiver) = (&about[12..16], &about[16..20]);
    let mut packet =
        ip_packet(receiver.try_into().unwrap(), sender.try_into().unwrap(), 0, &packet);
    packet[9] = 1;
    packet
}

/// A header and payload in bytes.
pub(crate) fn encode(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; HEADER_MAX];
    let bytes = header.encode(&mut out).unwrap();
    [&out[..bytes], payload].concat()
}

/// A packet of the client of RPC 2.
pub(crate) fn from_client(body: Body) -> Header {
    header(Common::control(CLIENT_PORT, SERVER_PORT, 2), body)
}

/// A packet of the server of RPC 2.
pub(crate) fn from_server(body: Body) -> Header {
    header(Common::control(SERVER_PORT, CLIENT_PORT, 3), body)
}

fn header(mut common: Common, body: Body) -> Header {
    if let Body::Data(data) = body {
        common.sequence = data.seg_offset;
        common.doff = homa_wire::DOFF_DATA;
    }
    Header { common, body, extension: None }
}

/// DATA of a message.
pub(crate) fn data(offset: u32, message_length: u32, incoming: u32) -> Body {
    Body::Data(Data { message_length, incoming, seg_offset: offset, ..Data::default() })
}

/// An analysis fed with packets made by hand.
pub(crate) struct Story {
    pub(crate) analysis: Analysis,
    time_ns: u64,
    found: Vec<&'static str>,
}

impl Story {
    pub(crate) fn new() -> Self {
        let analysis = Analysis::new(Decoder::default(), RPCS_MAX);
        Self { analysis, time_ns: 1_000_000_000, found: Vec::new() }
    }

    /// A frame of a raw IP link; the names of the findings in it.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Vec<&'static str> {
        self.time_ns += 1_000;
        let recorded = Recorded {
            time_ns: self.time_ns,
            link: LinkType::RawIp,
            original_bytes: frame.len() as u32,
            data: frame,
        };
        let mut names = Vec::new();
        self.analysis.frame(&recorded, |observation| {
            names.extend(observation.findings.iter().map(|finding| finding.check.name()));
        });
        self.found.extend(&names);
        names
    }

    /// A packet with `payload_bytes` of zeros, from the side that its id belongs to.
    pub(crate) fn packet(&mut self, header: &Header, payload_bytes: usize) -> Vec<&'static str> {
        let is_client = header.common.sender_id & 1 == 0;
        let (from, to) = if is_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        self.frame(&ip_packet(from, to, 0, &encode(header, &vec![0; payload_bytes])))
    }
}
