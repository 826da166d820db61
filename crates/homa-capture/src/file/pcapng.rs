//! Reading pcapng, block by block.
//!
//! The blocks' contents are read here and not by the crate `pcap-file`, which takes every time for
//! nanoseconds whatever the interface says, refuses interfaces with a time zone, and keeps every
//! interface description of a file in memory.

use std::io::{self, Read};

use super::{FileError, Recorded};
use crate::decode::LinkType;

/// Longest block read, in bytes; a frame has at most 256 KiB, some blocks hold secrets or names.
const BLOCK_BYTES_MAX: u32 = 64 << 20;
/// Most interfaces of a section.
const INTERFACES_MAX: usize = 65_536;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

pub(super) struct PcapngReader<R: Read> {
    reader: R,
    big_endian: bool,
    interfaces: Vec<Interface>,
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Option<LinkType>,
    ticks: Ticks,
    offset_s: i64,
}

/// The unit of times.
#[derive(Clone, Copy, Debug)]
enum Ticks {
    /// 10^-n seconds.
    Decimal(u32),
    /// 2^-n seconds.
    Binary(u32),
}

/// Where a packet block says what.
struct Packet {
    interface: usize,
    ticks: u64,
    original_bytes: u32,
    start: usize,
    end: usize,
}

impl<R: Read> PcapngReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, big_endian: false, interfaces: Vec::new(), block: Vec::new() }
    }

    /// The next frame; `packets` have been read before.
    pub(super) fn next_frame(
        &mut self,
        packets: u64,
        skipped: &mut u64,
        read_bytes: &mut u64,
    ) -> Option<Result<Recorded<'_>, FileError>> {
        let (packet, interface, link) = loop {
            let packet = match self.next_packet(packets, read_bytes) {
                Ok(Some(packet)) => packet,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            match self.interfaces.get(packet.interface) {
                Some(interface @ Interface { link: Some(link), .. }) => {
                    break (packet, *interface, *link);
                }
                Some(_) => *skipped += 1,
                None => {
                    return Some(Err(damaged(packets, "a packet of an interface not described")));
                }
            }
        };
        let data = self.block.get(packet.start..packet.end).unwrap_or_default();
        Some(Ok(Recorded {
            time_ns: interface.time_ns(packet.ticks),
            link,
            original_bytes: packet.original_bytes,
            data,
        }))
    }

    /// Reads blocks up to the next packet.
    fn next_packet(
        &mut self,
        packets: u64,
        read_bytes: &mut u64,
    ) -> Result<Option<Packet>, FileError> {
        loop {
            let Some(kind) = self.next_block(packets)? else {
                return Ok(None);
            };
            *read_bytes += self.block.len() as u64 + 12;
            let packet = match kind {
                SECTION_HEADER => {
                    self.interfaces.clear();
                    continue;
                }
                INTERFACE_DESCRIPTION => {
                    let interface = self.interface();
                    let interface = interface.ok_or(damaged(packets, "a short interface"))?;
                    if self.interfaces.len() >= INTERFACES_MAX {
                        return Err(damaged(packets, "too many interfaces"));
                    }
                    self.interfaces.push(interface);
                    continue;
                }
                ENHANCED_PACKET => self.enhanced_packet(),
                SIMPLE_PACKET => self.simple_packet(),
                OBSOLETE_PACKET => self.obsolete_packet(),
                _ => continue,
            };
            return packet.map(Some).ok_or(damaged(packets, "a packet longer than its block"));
        }
    }

    /// Reads a block's content into `self.block` and says its type; `None` at the end of the file.
    fn next_block(&mut self, packets: u64) -> Result<Option<u32>, FileError> {
        let mut head = [0; 8];
        if !read_all(&mut self.reader, &mut head, true, packets)? {
            return Ok(None);
        }
        let mut content = Vec::new();
        if head.starts_with(&SECTION_HEADER.to_be_bytes()) {
            let mut magic = [0; 4];
            read_all(&mut self.reader, &mut magic, false, packets)?;
            self.big_endian = match BYTE_ORDER_MAGIC {
                order if order == u32::from_be_bytes(magic) => true,
                order if order == u32::from_le_bytes(magic) => false,
                _ => return Err(damaged(packets, "a section without byte order")),
            };
            content.extend(magic);
        }
        let kind = self.number(&head, 0).unwrap_or_default();
        let total = self.number(&head, 4).unwrap_or_default();
        if total % 4 != 0 || total > BLOCK_BYTES_MAX || total < 12 + content.len() as u32 {
            return Err(damaged(packets, &format!("a block of {total} bytes")));
        }
        // The block as announced, without what has been read of it. Memory grows as bytes arrive.
        let rest = u64::from(total) - 8 - content.len() as u64;
        self.block.clear();
        self.block.append(&mut content);
        let got = (&mut self.reader).take(rest).read_to_end(&mut self.block)?;
        if (got as u64) < rest {
            return Err(FileError::Truncated(packets + 1));
        }
        let trailer_at = self.block.len().saturating_sub(4);
        if self.number(&self.block, trailer_at) != Some(total) {
            return Err(damaged(packets, "a block with two different lengths"));
        }
        self.block.truncate(trailer_at);
        Ok(Some(kind))
    }

    fn interface(&self) -> Option<Interface> {
        let number = self.half(&self.block, 0)?;
        let mut interface = Interface {
            link: LinkType::from_number(u32::from(number)),
            ticks: Ticks::Decimal(6),
            offset_s: 0,
        };
        self.half(&self.block, 6)?;
        let mut at = 8;
        while let (Some(code), Some(length)) =
            (self.half(&self.block, at), self.half(&self.block, at + 2))
        {
            let value = self.block.get(at + 4..at + 4 + usize::from(length))?;
            match (code, value) {
                (0, _) => break,
                (OPTION_TIME_RESOLUTION, [power]) => {
                    let exponent = u32::from(power & 0x7F);
                    let binary = power & 0x80 != 0;
                    interface.ticks =
                        if binary { Ticks::Binary(exponent) } else { Ticks::Decimal(exponent) };
                }
                (OPTION_TIME_OFFSET, value) => {
                    let value: [u8; 8] = value.try_into().ok()?;
                    interface.offset_s = match self.big_endian {
                        true => i64::from_be_bytes(value),
                        false => i64::from_le_bytes(value),
                    };
                }
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        Some(interface)
    }

    fn enhanced_packet(&self) -> Option<Packet> {
        let field = |at| self.number(&self.block, at);
        let interface = usize::try_from(field(0)?).ok()?;
        self.packet(interface, (field(4)?, field(8)?), field(12)?, field(16)?, 20)
    }

    fn obsolete_packet(&self) -> Option<Packet> {
        let field = |at| self.number(&self.block, at);
        let interface = usize::from(self.half(&self.block, 0)?);
        self.packet(interface, (field(4)?, field(8)?), field(12)?, field(16)?, 20)
    }

    fn simple_packet(&self) -> Option<Packet> {
        let original_bytes = self.number(&self.block, 0)?;
        let room = u32::try_from(self.block.len().saturating_sub(4)).ok()?;
        self.packet(0, (0, 0), original_bytes.min(room), original_bytes, 4)
    }

    fn packet(
        &self,
        interface: usize,
        (high, low): (u32, u32),
        recorded_bytes: u32,
        original_bytes: u32,
        start: usize,
    ) -> Option<Packet> {
        let end = start.checked_add(usize::try_from(recorded_bytes).ok()?)?;
        self.block.get(start..end)?;
        let ticks = u64::from(high) << 32 | u64::from(low);
        Some(Packet { interface, ticks, original_bytes, start, end })
    }

    fn number(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
}

impl Interface {
    fn time_ns(&self, ticks: u64) -> u64 {
        const NS: u128 = 1_000_000_000;
        let ticks = u128::from(ticks);
        let ns = match self.ticks {
            Ticks::Decimal(exponent) => match 10_u128.checked_pow(exponent) {
                Some(per_second) => ticks * NS / per_second,
                None => 0,
            },
            Ticks::Binary(exponent) => (ticks * NS).checked_shr(exponent).unwrap_or(0),
        };
        let ns = i128::try_from(ns).unwrap_or(i128::MAX);
        let offset = i128::from(self.offset_s) * 1_000_000_000;
        u64::try_from(ns.saturating_add(offset).max(0)).unwrap_or(u64::MAX)
    }
}

/// Fills `bytes`; `false` if the file ends before them and may.
fn read_all(
    reader: &mut impl Read,
    bytes: &mut [u8],
    may_end: bool,
    packets: u64,
) -> Result<bool, FileError> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) if filled == 0 && may_end => return Ok(false),
            Ok(0) => return Err(FileError::Truncated(packets + 1)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn damaged(after: u64, reason: &str) -> FileError {
    FileError::Damaged { after, reason: reason.to_owned() }
}
