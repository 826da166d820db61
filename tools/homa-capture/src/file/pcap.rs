//! Reading pcap: a header of the file, then each packet with a header of its own.

use std::io::Read;

use super::input::{BLOCK_BYTES_MAX, ByteOrder, append, damaged, read_all};
use super::{FileError, Recorded};
use crate::decode::LinkType;

/// Begins a file whose times count microseconds.
const MICROSECONDS_MAGIC: u32 = 0xA1B2_C3D4;
/// Begins a file whose times count nanoseconds.
const NANOSECONDS_MAGIC: u32 = 0xA1B2_3C4D;
const FILE_HEADER_BYTES: usize = 24;
const PACKET_HEADER_BYTES: usize = 16;

pub(super) struct PcapReader<R: Read> {
    reader: R,
    order: ByteOrder,
    tick_ns: u64,
    link: LinkType,
    frame: Vec<u8>,
}

impl<R: Read> PcapReader<R> {
    /// Reads the header of the file; `None` if it has none.
    pub(super) fn new(mut reader: R) -> Result<Option<Self>, FileError> {
        let mut header = [0; FILE_HEADER_BYTES];
        match read_all(&mut reader, &mut header, true, 0) {
            Ok(true) => {}
            Ok(false) | Err(FileError::Truncated(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let [a, b, c, d, ..] = header;
        let magics = [(MICROSECONDS_MAGIC, 1_000), (NANOSECONDS_MAGIC, 1)];
        let found = magics.into_iter().find_map(|(magic, tick_ns)| {
            ByteOrder::of([a, b, c, d], magic).map(|order| (order, tick_ns))
        });
        let Some((order, tick_ns)) = found else { return Ok(None) };
        // The upper bits may say how long frame check sequences are.
        let number = order.u32(&header, 20).unwrap_or_default() & 0x0FFF_FFFF;
        let link = LinkType::from_number(number).ok_or(FileError::LinkType(number))?;
        Ok(Some(Self { reader, order, tick_ns, link, frame: Vec::new() }))
    }

    /// The next frame; `packets` have been read before.
    pub(super) fn next_frame(
        &mut self,
        packets: u64,
        read_bytes: &mut u64,
    ) -> Result<Option<Recorded<'_>>, FileError> {
        let mut header = [0; PACKET_HEADER_BYTES];
        if !read_all(&mut self.reader, &mut header, true, packets)? {
            return Ok(None);
        }
        let field = |at| self.order.u32(&header, at).unwrap_or_default();
        let (seconds, ticks, recorded_bytes, original_bytes) =
            (field(0), field(4), field(8), field(12));
        if recorded_bytes > BLOCK_BYTES_MAX {
            return Err(damaged(packets, &format!("a packet of {recorded_bytes} bytes")));
        }
        self.frame.clear();
        append(&mut self.reader, &mut self.frame, recorded_bytes, packets)?;
        *read_bytes += (PACKET_HEADER_BYTES + self.frame.len()) as u64;
        let time_ns = u64::from(seconds) * 1_000_000_000 + u64::from(ticks) * self.tick_ns;
        Ok(Some(Recorded { time_ns, link: self.link, original_bytes, data: &self.frame }))
    }
}
