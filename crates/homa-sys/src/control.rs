//! Control messages: what travels beside a packet through `sendmsg` and `recvmsg`.
//!
//! A control buffer is a sequence of records, each a header (`size_t` length including the
//! header, `int` level, `int` type) and data, padded to the size of a `size_t`. Written and read
//! here on plain bytes, without the C macros, so that it is safe code.

use crate::address::array;
use std::ffi::c_int;

const WORD: usize = size_of::<usize>();
const INT: usize = size_of::<c_int>();
const HEADER_BYTES: usize = WORD + 2 * INT;

/// Bytes of a control buffer: more than all messages that this crate asks for together
/// (six on a dual stack socket, 160 bytes).
pub const CONTROL_BYTES: usize = 256;

/// A control buffer, aligned as the kernel's records are.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct ControlBuffer {
    bytes: [u8; CONTROL_BYTES],
    length: usize,
}

impl ControlBuffer {
    /// Without messages; also the room that `recvmsg` fills.
    pub const fn new() -> Self {
        Self { bytes: [0; CONTROL_BYTES], length: 0 }
    }

    /// Appends a message. `None`, and nothing appended, if it does not fit.
    pub fn push(&mut self, level: c_int, kind: c_int, data: &[u8]) -> Option<()> {
        let record = HEADER_BYTES.checked_add(data.len())?;
        let end = self.length.checked_add(record.checked_next_multiple_of(WORD)?)?;
        let room = self.bytes.get_mut(self.length..end)?;
        room[..WORD].copy_from_slice(&record.to_ne_bytes());
        room[WORD..WORD + INT].copy_from_slice(&level.to_ne_bytes());
        room[WORD + INT..HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER_BYTES..record].copy_from_slice(data);
        self.length = end;
        Some(())
    }

    /// Bytes in use.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Notes how many bytes the kernel has written.
    #[inline]
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length.min(CONTROL_BYTES);
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    /// The messages in the buffer, in order.
    pub fn messages(&self) -> Messages<'_> {
        Messages { rest: self.bytes.get(..self.length).unwrap_or(&[]) }
    }
}

impl Default for ControlBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// One received control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Protocol level, such as `IPPROTO_IP`.
    pub level: c_int,
    /// Meaning within the level, such as `IP_TOS`.
    pub kind: c_int,
    /// Its content.
    pub data: &'a [u8],
}

impl Message<'_> {
    /// The content as a native `u32`, if it has at least four bytes.
    pub fn as_u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(array(self.data, 0)?))
    }

    /// The content as a number that the kernel writes as one byte or as an `int`, and which is
    /// below 256 either way (IPv4 type of service is one byte, IPv6 traffic class an `int`).
    pub fn as_small(&self) -> Option<u8> {
        match self.data {
            [byte] => Some(*byte),
            _ => u8::try_from(self.as_u32()?).ok(),
        }
    }
}

/// Iterator over control messages; ends at the first malformed one.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let record = usize::from_ne_bytes(array(self.rest, 0)?);
        let level = c_int::from_ne_bytes(array(self.rest, WORD)?);
        let kind = c_int::from_ne_bytes(array(self.rest, WORD + INT)?);
        let data = self.rest.get(HEADER_BYTES..record)?;
        let next = record.checked_next_multiple_of(WORD)?;
        self.rest = self.rest.get(next..).unwrap_or(&[]);
        Some(Message { level, kind, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_as_written() {
        let mut buffer = ControlBuffer::new();
        buffer.push(1, 2, &[7]).unwrap();
        buffer.push(3, 4, &0x0102_0304_u32.to_ne_bytes()).unwrap();
        let seen: Vec<_> = buffer.messages().collect();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].level, seen[0].kind, seen[0].as_small()), (1, 2, Some(7)));
        assert_eq!(seen[1].as_u32(), Some(0x0102_0304));
        assert_eq!(seen[1].as_small(), None);
    }

    #[test]
    fn the_layout_is_that_of_the_c_macros() {
        // SAFETY: pure arithmetic on a length.
        let (space, length) = unsafe { (libc::CMSG_SPACE(4), libc::CMSG_LEN(4)) };
        let mut buffer = ControlBuffer::new();
        buffer.push(0, 0, &[0; 4]).unwrap();
        assert_eq!(buffer.length(), space as usize);
        assert_eq!(usize::from_ne_bytes(array(&buffer.bytes, 0).unwrap()), length as usize);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_the_buffer_as_it_was() {
        let mut buffer = ControlBuffer::new();
        buffer.push(0, 0, &[0; 100]).unwrap();
        let before = buffer.length();
        assert_eq!(buffer.push(0, 0, &[0; CONTROL_BYTES]), None);
        assert_eq!(buffer.length(), before);
    }

    #[test]
    fn malformed_records_end_the_iteration() {
        for record in [0, 1, HEADER_BYTES - 1, CONTROL_BYTES + 1, usize::MAX] {
            let mut buffer = ControlBuffer::new();
            buffer.push(1, 1, &[1, 2, 3, 4]).unwrap();
            buffer.bytes[..WORD].copy_from_slice(&record.to_ne_bytes());
            assert_eq!(buffer.messages().count(), 0, "length {record}");
        }
    }
}
