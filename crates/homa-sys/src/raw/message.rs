//! `sendmmsg` and `recvmmsg` on prepared buffers.

use crate::address::RawAddress;
use crate::call::check;
use crate::control::ControlBuffer;
use crate::udp::message::{receiving_header, sending_header};
use arrayvec::ArrayVec;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most packets of one send or receive.
pub const PACKETS_MAX: usize = 64;

/// The kernel's metadata of one packet.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: RawAddress,
    pub(super) control: ControlBuffer,
    pub(super) length: usize,
    pub(super) flags: i32,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { name: RawAddress::EMPTY, control: ControlBuffer::new(), length: 0, flags: 0 }
    }
}

/// One `recvmmsg` of up to `max` packets: packet `i` into the `i`-th `slot_bytes` of `bytes`, what
/// the kernel says of it into the `i`-th slot. Says how many came.
pub(super) fn receive_some(
    fd: BorrowedFd<'_>,
    bytes: &mut [u8],
    slot_bytes: usize,
    slots: &mut [Slot],
    max: usize,
) -> io::Result<usize> {
    let mut rooms: ArrayVec<IoSliceMut<'_>, PACKETS_MAX> = bytes
        .chunks_exact_mut(slot_bytes)
        .take(slots.len().min(max).min(PACKETS_MAX))
        .map(IoSliceMut::new)
        .collect();
    let mut headers: ArrayVec<libc::mmsghdr, PACKETS_MAX> = ArrayVec::new();
    for (slot, room) in slots.iter_mut().zip(&mut rooms) {
        let header = receiving_header(&mut slot.name, &mut slot.control, room);
        headers.push(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
    }
    if headers.is_empty() {
        return Ok(0);
    }
    // The kernel says more than fits (`MSG_TRUNC`) so that cut packets are known with their length.
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: pointer and length describe the local `headers`. Every pointer in them leads to room
    // of the stated length that this function holds exclusively: names and control buffers belong
    // to distinct `slots`, `rooms` has the layout of an array of `iovec` and describes distinct
    // parts of `bytes`. The kernel keeps none of them, and any bytes it writes are valid, all being
    // bytes. A null timeout means none, and the call does not wait.
    let count = check(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as libc::c_uint,
            flags as _,
            std::ptr::null_mut(),
        )
    })?;
    let count = count.unsigned_abs() as usize;
    for (slot, header) in slots.iter_mut().zip(&headers).take(count) {
        slot.name.set_length(header.msg_hdr.msg_namelen);
        #[allow(clippy::unnecessary_cast, reason = "the field is narrower in some C libraries")]
        slot.control.set_length(header.msg_hdr.msg_controllen as usize);
        slot.length = header.msg_len as usize;
        slot.flags = header.msg_hdr.msg_flags;
    }
    Ok(count)
}

/// One `sendmmsg` of at most [`PACKETS_MAX`] `packets`, each in pieces and to `name` with
/// `control`. Says how many were sent.
pub(super) fn send_all<'a, 'b: 'a>(
    fd: BorrowedFd<'_>,
    name: &RawAddress,
    control: &mut ControlBuffer,
    packets: impl Iterator<Item = &'a [IoSlice<'b>]>,
) -> io::Result<usize> {
    let mut headers: ArrayVec<libc::mmsghdr, PACKETS_MAX> = ArrayVec::new();
    for pieces in packets.take(PACKETS_MAX) {
        let header = sending_header(Some(name), control, pieces);
        headers.push(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
    }
    if headers.is_empty() {
        return Ok(0);
    }
    // SAFETY: pointer and length describe the local `headers`, in which the call writes only
    // `msg_len`. It only reads through their pointers, also where the C type is mutable: `name` and
    // `control` have the stated lengths, and `IoSlice` has the layout of `iovec`, so each slice of
    // pieces is an array of `msg_iovlen` of them, each describing readable bytes. All are borrowed
    // until the call has returned, after which the kernel holds copies.
    let sent = check(unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as libc::c_uint,
            libc::MSG_NOSIGNAL as _,
        )
    })?;
    Ok(sent.unsigned_abs() as usize)
}
