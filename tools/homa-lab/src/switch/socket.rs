//! Frames out of and into one network device, many at a time.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, bind,
        recvmmsg, sendmmsg, setsockopt, socket, sockopt,
    },
};

use super::frame::Frame;

/// Frames moved by one system call.
pub(crate) const BATCH: usize = 64;

/// What the socket may hold before the switch looks, in bytes of the kernel's own accounting; some
/// 2,300 frames of 1,500 bytes.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A packet socket on one device.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket for all frames that come in at `device` of the calling thread's namespace.
    pub(crate) fn open(device: &str) -> io::Result<Self> {
        let address = address_of(device)?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        bind(socket.as_raw_fd(), &address)?;
        // The first is a privilege that root of a user namespace lacks; the second is cut to the
        // system's limit.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        }
        Ok(Self { socket })
    }

    /// Receives frames into `frames`, front to back; returns their number, zero if there are none.
    pub(crate) fn receive(&self, headers: &mut Headers, frames: &mut [Frame]) -> io::Result<usize> {
        let mut lengths = [0; BATCH];
        let count = {
            let mut slices: Vec<_> =
                frames.iter_mut().map(|frame| [IoSliceMut::new(frame.space())]).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmmsg(self.socket.as_raw_fd(), &mut headers.0, slices.iter_mut(), flags, None)
            {
                Ok(messages) => {
                    let mut count = 0;
                    for (length, message) in lengths.iter_mut().zip(messages) {
                        *length = message.bytes;
                        count += 1;
                    }
                    count
                }
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => 0,
                Err(errno) => return Err(errno.into()),
            }
        };
        for (frame, length) in frames.iter_mut().zip(lengths).take(count) {
            frame.set_length(length);
        }
        Ok(count)
    }

    /// Sends frames; returns how many the kernel took, from the front.
    pub(crate) fn send(&self, headers: &mut Headers, frames: &[Frame]) -> io::Result<usize> {
        let slices: Vec<_> = frames.iter().map(|frame| [IoSlice::new(frame.bytes())]).collect();
        let addresses = vec![None; frames.len()];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        match sendmmsg(fd, &mut headers.0, &slices, addresses, [], flags) {
            Ok(sent) => Ok(sent.count()),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENETDOWN) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What the kernel is told about the frames of one call; of use again and again, in one thread.
#[derive(Debug)]
pub(crate) struct Headers(MultiHeaders<()>);

impl Headers {
    pub(crate) fn new() -> Self {
        Self(MultiHeaders::preallocate(BATCH, None))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn address_of(device: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|interface| interface.interface_name == device)
        .find_map(|interface| interface.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no device `{device}`")))
}
