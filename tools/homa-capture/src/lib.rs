//! Reads recorded Homa packets, follows RPCs through them and explains what each packet means.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`CaptureReader`], [`CaptureWriter`] | frames from pcap and pcapng files, one at a time; frames to pcapng |
//! | [`as_on_wire`] | finishes what offloading left undone in frames of a running capture |
//! | [`Decoder`] | finds Homa packets in a frame: no I/O, no state |
//! | [`Follow`] | what a recording shows of each RPC, in bounded memory |
//! | [`Checker`] | what no correct peer would send |
//! | [`Analysis`] | all of these joined: frames in, [`Observation`]s out |
//! | [`packet_line`], [`PacketRecord`] and others | observations for people and for programs |
//!
//! Nothing here panics, hangs or grows without bound, whatever the bytes.
//!
//! ```
//! use homa_capture::{Analysis, CaptureReader, Decoder, RPCS_MAX, packet_line};
//!
//! let file = std::fs::File::open("testdata/ip4-rpc-1400.pcap")?;
//! let mut reader = CaptureReader::new(file)?;
//! let mut analysis = Analysis::new(Decoder::default(), RPCS_MAX);
//! while let Some(recorded) = reader.next_frame() {
//!     analysis.frame(&recorded?, |observation| print!("{}", packet_line(observation, 0)));
//! }
//! assert_eq!(analysis.totals().homa_packets(), 4);
//! assert_eq!(analysis.totals().violations(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod analysis;
mod check;
mod decode;
mod document;
mod file;
mod follow;
mod offload;
mod text;
mod words;

pub use analysis::{Analysis, Observation, Totals, What};
pub use check::{Check, Checker, Finding, Severity};
pub use decode::{
    BadPacket, BadReason, Carriage, Checksum, Decoded, Decoder, Fragment, Frame, IcmpError,
    IcmpMeaning, LinkType, Quoted,
};
pub use document::{PacketRecord, RpcRecord, TotalsRecord};
pub use file::{CaptureReader, CaptureWriter, FileError, Recorded, WriteError};
pub use follow::{
    DataStep, Direction, Failure, Follow, Message, RPCS_MAX, Rpc, RpcKey, State, direction_of,
    is_from_client, key_of, quoted_key,
};
pub use offload::{Offload, as_on_wire};
pub use text::{packet_line, rpc_text, totals_text};
pub use words::{failure, meaning, state};

pub use homa_wire::RpcId;
