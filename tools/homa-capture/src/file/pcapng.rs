//! Reading pcapng, block by block.
//!
//! Times are read in the unit of their interface, with its offset; of the interfaces only those of
//! the present section are kept.

use std::io::Read;

use super::input::{BLOCK_BYTES_MAX, ByteOrder, append, damaged, read_all};
use super::{FileError, Recorded};
use crate::decode::LinkType;

/// Most interfaces of a section.
const INTERFACES_MAX: usize = 65_536;

pub(super) const SECTION_HEADER: u32 = 0x0A0D_0D0A;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
pub(super) const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

pub(super) struct PcapngReader<R: Read> {
    reader: R,
    order: ByteOrder,
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
        Self { reader, order: ByteOrder::Little, interfaces: Vec::new(), block: Vec::new() }
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
            self.order = ByteOrder::of(magic, BYTE_ORDER_MAGIC)
                .ok_or_else(|| damaged(packets, "a section without byte order"))?;
            content.extend(magic);
        }
        let kind = self.order.u32(&head, 0).unwrap_or_default();
        let total = self.order.u32(&head, 4).unwrap_or_default();
        if total % 4 != 0 || total > BLOCK_BYTES_MAX || total < 12 + content.len() as u32 {
            return Err(damaged(packets, &format!("a block of {total} bytes")));
        }
        // The block as announced, without what has been read of it. Memory grows as bytes arrive.
        let rest = total - 8 - content.len() as u32;
        self.block.clear();
        self.block.append(&mut content);
        append(&mut self.reader, &mut self.block, rest, packets)?;
        let trailer_at = self.block.len().saturating_sub(4);
        if self.order.u32(&self.block, trailer_at) != Some(total) {
            return Err(damaged(packets, "a block with two different lengths"));
        }
        self.block.truncate(trailer_at);
        Ok(Some(kind))
    }

    fn interface(&self) -> Option<Interface> {
        let number = self.order.u16(&self.block, 0)?;
        let mut interface = Interface {
            link: LinkType::from_number(u32::from(number)),
            ticks: Ticks::Decimal(6),
            offset_s: 0,
        };
        self.order.u16(&self.block, 6)?;
        let mut at = 8;
        while let (Some(code), Some(length)) =
            (self.order.u16(&self.block, at), self.order.u16(&self.block, at + 2))
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
                    interface.offset_s = self.order.i64(value);
                }
                _ => {}
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        Some(interface)
    }

    fn enhanced_packet(&self) -> Option<Packet> {
        let field = |at| self.order.u32(&self.block, at);
        let interface = usize::try_from(field(0)?).ok()?;
        self.packet(interface, (field(4)?, field(8)?), field(12)?, field(16)?, 20)
    }

    fn obsolete_packet(&self) -> Option<Packet> {
        let field = |at| self.order.u32(&self.block, at);
        let interface = usize::from(self.order.u16(&self.block, 0)?);
        self.packet(interface, (field(4)?, field(8)?), field(12)?, field(16)?, 20)
    }

    fn simple_packet(&self) -> Option<Packet> {
        let original_bytes = self.order.u32(&self.block, 0)?;
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
