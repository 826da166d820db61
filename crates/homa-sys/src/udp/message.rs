//! `sendmsg`, `sendto` and `recvmsg` on prepared buffers: the calls of the packet path.
//!
//! They are made by their numbers: the functions of the C library of these names are points where a
//! thread may be cancelled, for which each of them takes two atomic operations. Rust's threads are
//! not cancelled.

use crate::address::RawAddress;
use crate::call::check_bytes;
use crate::control::{CONTROL_BYTES, ControlBuffer};
use std::ffi::c_int;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

/// One `recvmsg` into `buffer`, filling `name` and `control`. Says how many bytes were received
/// and the flags of the message.
#[inline]
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    name: &mut RawAddress,
    control: &mut ControlBuffer,
    flags: c_int,
) -> io::Result<(usize, c_int)> {
    let mut slice = IoSliceMut::new(buffer);
    let mut header = receiving_header(name, control, &mut slice);
    // SAFETY: every pointer in `header` leads to room of the stated length that this function
    // holds exclusively: `name` has `EMPTY.length()` bytes, `control` has CONTROL_BYTES, and
    // `IoSliceMut` has the layout of `iovec` and describes `buffer`. The kernel keeps none of
    // them, and any bytes it writes are valid, all being bytes.
    let result =
        unsafe { libc::syscall(libc::SYS_recvmsg, fd.as_raw_fd(), &raw mut header, flags) };
    let length = check_bytes(result as isize)?;
    name.set_length(header.msg_namelen);
    #[allow(clippy::unnecessary_cast, reason = "the field is narrower in some C libraries")]
    control.set_length(header.msg_controllen as usize);
    Ok((length, header.msg_flags))
}

/// One `sendmsg` of the gathered `slices` to `name`, or to where the socket is connected. Says how
/// many bytes were sent.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    name: Option<&RawAddress>,
    control: &mut ControlBuffer,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    let header = sending_header(name, control, slices);
    // SAFETY: `sendmsg` only reads through these pointers, also where the C type is mutable:
    // `name` and `control` have the stated lengths, and `IoSlice` has the layout of `iovec`, so
    // `slices` is an array of `msg_iovlen` of them, each describing readable bytes. All are
    // borrowed until the call has returned, after which the kernel holds copies.
    let result = unsafe {
        libc::syscall(libc::SYS_sendmsg, fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    };
    check_bytes(result as isize)
}

/// One `sendto` of `bytes` to `name`, or to where the socket is connected: some 150 ns less than
/// [`send`]. Says how many were sent.
#[inline]
pub(crate) fn send_plain(
    fd: BorrowedFd<'_>,
    name: Option<&RawAddress>,
    bytes: &[u8],
) -> io::Result<usize> {
    let (address, length) =
        name.map_or((std::ptr::null(), 0), |name| (name.as_ptr(), name.length()));
    // SAFETY: both pointers are read only, with the lengths of the things they lead to, which are
    // borrowed until the call has returned; a null address of length 0 means "none".
    let result = unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd.as_raw_fd(),
            bytes.as_ptr(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            address,
            length,
        )
    };
    check_bytes(result as isize)
}

/// A header whose pointers lead to the whole of `name` and `control`, and to `slice`.
pub(crate) fn receiving_header(
    name: &mut RawAddress,
    control: &mut ControlBuffer,
    slice: &mut IoSliceMut<'_>,
) -> libc::msghdr {
    let mut header = empty_header();
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = RawAddress::EMPTY.length();
    header.msg_iov = std::ptr::from_mut(slice).cast();
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr();
    header.msg_controllen = CONTROL_BYTES as _;
    header
}

/// A header whose pointers lead to `name`, `control` and `slices`, with their lengths.
pub(crate) fn sending_header(
    name: Option<&RawAddress>,
    control: &mut ControlBuffer,
    slices: &[IoSlice<'_>],
) -> libc::msghdr {
    let mut header = empty_header();
    if let Some(name) = name {
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.length();
    }
    header.msg_iov = slices.as_ptr().cast_mut().cast();
    header.msg_iovlen = slices.len() as _;
    if control.length() > 0 {
        header.msg_control = control.as_mut_ptr();
        header.msg_controllen = control.length() as _;
    }
    header
}

fn empty_header() -> libc::msghdr {
    // SAFETY: integers and raw pointers only; all zeros is valid and means "none".
    unsafe { std::mem::zeroed() }
}
