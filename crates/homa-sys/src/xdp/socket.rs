//! A socket of one queue with its memory for packets.

use super::error::XdpError;
use super::memory::Mapping;
use super::ring::{Consumer, Descriptor, Layout, Producer};
use crate::call::{check, check_bytes, check_fd, option, set_option};
use crate::errno;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// Bytes that the kernel keeps free ahead of a received packet in each frame.
pub const HEADROOM_BYTES: usize = 256;
/// Longest packet that is put together of several frames.
const PACKET_MAX_BYTES: usize = 1 << 16;
/// System calls that one [`XdpSocket::submit`] makes at most; in copy mode each sends 32 packets.
const WAKEUPS_MAX: u32 = 16;

/// Options of `asm-generic/socket.h`.
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;

/// How packets get into the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindMode {
    /// The card reads and writes it.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// How a socket is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpSocketConfig {
    /// Bytes of a frame: 2,048 or 4,096, of which a received packet has 256 less.
    pub frame_bytes: usize,
    /// Frames for packets received and not fetched, a power of two from 1 to 32,768.
    pub rx_frames: u32,
    /// Frames for packets on their way out, a power of two from 1 to 32,768.
    pub tx_frames: u32,
    /// Packets may be longer than a frame (Linux 6.6).
    pub multi_buffer: bool,
}

/// Counters of the kernel (`struct xdp_statistics`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdpStatistics {
    /// Packets dropped for other reasons than full rings, such as that they were too long.
    pub rx_dropped: u64,
    /// Packets dropped because nobody fetched those before them.
    pub rx_ring_full: u64,
    /// Packets that found no frame.
    pub rx_no_frame: u64,
    /// Packets that the kernel did not send because they were described wrongly.
    pub tx_invalid: u64,
}

/// A frame for receiving: whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RxOwner {
    Kernel,
    Process,
}

/// An AF_XDP socket with its memory and rings. It is non-blocking and closed on `exec`.
///
/// Frames have numbers: those below `rx_frames` are for receiving, those behind for sending.
#[derive(Debug)]
pub struct XdpSocket {
    fd: OwnedFd,
    memory: Mapping,
    fill: Producer<u64>,
    rx: Consumer<Descriptor>,
    tx: Producer<Descriptor>,
    completion: Consumer<u64>,
    config: XdpSocketConfig,
    rx_owner: Vec<RxOwner>,
    /// Bytes on their way in each frame for sending; 0 in those that are free.
    tx_bytes: Vec<u32>,
    tx_free: Vec<u32>,
    tx_backlog_bytes: u64,
    /// Where packets of several frames are put together.
    joined: Vec<u8>,
    /// The rest of the packet whose beginning is in `joined` comes with the next frames.
    is_joining: bool,
}

impl XdpSocket {
    /// Opens a socket with its memory and rings, not yet bound to a queue.
    ///
    /// # Errors
    /// [`XdpError::NoCapability`], [`XdpError::NotInKernel`], [`XdpError::MemoryLock`];
    /// [`XdpError::NotSupported`] if `config` is not as it must be; out of descriptors or memory.
    pub fn open(config: XdpSocketConfig) -> Result<Self, XdpError> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::socket(libc::AF_XDP, kind, 0)) }
            .map_err(|error| XdpError::of(error, "socket(AF_XDP)"))?;
        let frames = config.rx_frames as usize + config.tx_frames as usize;
        let invalid = || XdpError::from(io::Error::from(io::ErrorKind::InvalidInput));
        let bytes = frames.checked_mul(config.frame_bytes).ok_or_else(invalid)?;
        let memory = Mapping::anonymous(bytes)?;
        register(fd.as_fd(), &memory, config.frame_bytes)?;
        let ring = |name, size| {
            let size = c_int::try_from(size).map_err(|_| invalid())?;
            set_option(fd.as_fd(), libc::SOL_XDP, name, size)
                .map_err(|error| XdpError::of(error, "AF_XDP ring"))
        };
        ring(libc::XDP_UMEM_FILL_RING, config.rx_frames)?;
        ring(libc::XDP_UMEM_COMPLETION_RING, config.tx_frames)?;
        ring(libc::XDP_RX_RING, config.rx_frames)?;
        ring(libc::XDP_TX_RING, config.tx_frames)?;
        let [rx, tx, fill, completion] = layouts(fd.as_fd())?;
        let mut socket = Self {
            fill: Producer::map(fd.as_fd(), config.rx_frames, fill)?,
            rx: Consumer::map(fd.as_fd(), config.rx_frames, rx)?,
            tx: Producer::map(fd.as_fd(), config.tx_frames, tx)?,
            completion: Consumer::map(fd.as_fd(), config.tx_frames, completion)?,
            rx_owner: vec![RxOwner::Process; config.rx_frames as usize],
            tx_bytes: vec![0; config.tx_frames as usize],
            // The lowest come first.
            tx_free: (0..config.tx_frames).rev().collect(),
            tx_backlog_bytes: 0,
            joined: Vec::with_capacity(if config.multi_buffer { PACKET_MAX_BYTES } else { 0 }),
            is_joining: false,
            fd,
            memory,
            config,
        };
        (0..config.rx_frames).for_each(|frame| socket.refill(frame));
        socket.fill.publish();
        Ok(socket)
    }

    /// Binds the socket to a queue of an interface: with zero copy if the driver can and `copy` is
    /// not wanted.
    ///
    /// # Errors
    /// [`XdpError::QueueBusy`], [`XdpError::NoInterface`], [`XdpError::NotSupported`].
    pub fn bind(&self, interface: u32, queue: u32, copy: bool) -> Result<BindMode, XdpError> {
        let mut flags = libc::XDP_USE_NEED_WAKEUP;
        if copy {
            flags |= libc::XDP_COPY;
        }
        if self.config.multi_buffer {
            flags |= libc::XDP_USE_SG;
        }
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: pointer and length describe the local `address`, which is only read.
        let bound = check(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        });
        match bound {
            Ok(_) => Ok(self.bind_mode()?),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                Err(XdpError::QueueBusy { queue })
            }
            Err(error) => Err(XdpError::of(error, "bind(AF_XDP)")),
        }
    }

    fn bind_mode(&self) -> io::Result<BindMode> {
        let options = option(self.as_fd(), libc::SOL_XDP, libc::XDP_OPTIONS)?;
        let zero_copy = options as u32 & libc::XDP_OPTIONS_ZEROCOPY != 0;
        Ok(if zero_copy { BindMode::ZeroCopy } else { BindMode::Copy })
    }

    /// Has [`wake_rx`](Self::wake_rx) and sends drive the card's queue for up to `budget` packets,
    /// and keeps interrupts away while they come often (`SO_PREFER_BUSY_POLL`). `us`: how long a
    /// call looks for packets.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_ADMIN`; `InvalidInput` for a budget of more than 65,535.
    pub fn set_busy_poll(&self, us: u16, budget: u16) -> io::Result<()> {
        let set = |name, value| set_option(self.as_fd(), libc::SOL_SOCKET, name, value);
        set(SO_PREFER_BUSY_POLL, 1)?;
        set(libc::SO_BUSY_POLL, c_int::from(us))?;
        set(SO_BUSY_POLL_BUDGET, c_int::from(budget))
    }

    /// Bytes of the longest packet that fits one frame to send.
    pub fn frame_bytes(&self) -> usize {
        self.config.frame_bytes
    }

    /// Passes up to `max` packets on, whole and in order, as their Ethernet frames; says how many.
    /// Their frames go back to the kernel.
    #[inline]
    pub fn receive(&mut self, max: u32, mut packet: impl FnMut(&[u8])) -> u32 {
        let mut waiting = self.rx.waiting();
        if waiting == 0 {
            return 0;
        }
        let mut packets = 0;
        while packets < max {
            let Some(descriptor) = self.rx.pop(&mut waiting) else {
                break;
            };
            let Some(frame) = self.received_frame(descriptor) else {
                continue;
            };
            let more = descriptor.options & libc::XDP_PKT_CONTD != 0;
            if more || self.is_joining {
                self.join(descriptor);
                if !more {
                    packet(&self.joined);
                    self.joined.clear();
                    packets += 1;
                }
                self.is_joining = more;
            } else {
                packet(self.bytes(descriptor));
                packets += 1;
            }
            self.refill(frame);
        }
        self.rx.release();
        self.fill.publish();
        packets
    }

    /// Number of the frame of a received packet, which is the process's from now on; `None` if the
    /// kernel had none there, which does not happen.
    fn received_frame(&mut self, descriptor: Descriptor) -> Option<u32> {
        let start = usize::try_from(descriptor.address).ok()?;
        let frame = start / self.config.frame_bytes;
        let end = (start % self.config.frame_bytes).checked_add(descriptor.bytes as usize)?;
        let owner = self.rx_owner.get_mut(frame)?;
        if *owner != RxOwner::Kernel || end > self.config.frame_bytes {
            return None;
        }
        *owner = RxOwner::Process;
        u32::try_from(frame).ok()
    }

    /// The bytes of a received packet.
    fn bytes(&self, descriptor: Descriptor) -> &[u8] {
        let (start, length) = (descriptor.address as usize, descriptor.bytes as usize);
        match self.memory.at(start, length) {
            // SAFETY: the bytes lie within the memory, in a frame that `received_frame` took from
            // the kernel and that goes back when this borrow is over.
            Some(place) => unsafe { std::slice::from_raw_parts(place.as_ptr(), length) },
            None => &[],
        }
    }

    /// Appends a frame to the packet that is put together; too much is left out.
    fn join(&mut self, descriptor: Descriptor) {
        let mut joined = std::mem::take(&mut self.joined);
        let room = PACKET_MAX_BYTES.saturating_sub(joined.len());
        let bytes = self.bytes(descriptor);
        joined.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.joined = joined;
    }

    /// Gives a frame to the kernel, as of the next `publish`.
    fn refill(&mut self, frame: u32) {
        let address = u64::from(frame) * self.config.frame_bytes as u64;
        // The ring has a place for each frame.
        if self.fill.push(address) {
            if let Some(owner) = self.rx_owner.get_mut(frame as usize) {
                *owner = RxOwner::Kernel;
            }
        }
    }

    /// A frame to write a packet, or a part of one, into; `None` if all are on their way.
    #[inline]
    pub fn tx_frame(&mut self) -> Option<TxFrame<'_>> {
        let frame = self.tx_free.pop()?;
        Some(TxFrame { socket: self, frame, is_committed: false })
    }

    /// Frames that [`tx_frame`](Self::tx_frame) would give out one after the other.
    #[inline]
    pub fn tx_free(&self) -> usize {
        self.tx_free.len()
    }

    /// Takes back the frames that the kernel has sent.
    #[inline]
    pub fn reclaim(&mut self) {
        let mut waiting = self.completion.waiting();
        if waiting == 0 {
            return;
        }
        while let Some(address) = self.completion.pop(&mut waiting) {
            let Some(frame) = self.sent_frame(address) else {
                continue;
            };
            if let Some(bytes) = self.tx_bytes.get_mut(frame as usize).filter(|it| **it > 0) {
                self.tx_backlog_bytes -= u64::from(std::mem::take(bytes));
                self.tx_free.push(frame);
            }
        }
        self.completion.release();
    }

    /// Number of a frame for sending at an address, counted from the first of these.
    fn sent_frame(&self, address: u64) -> Option<u32> {
        let frame = address / self.config.frame_bytes as u64;
        u32::try_from(frame).ok()?.checked_sub(self.config.rx_frames)
    }

    /// Bytes committed that have not left.
    pub fn tx_backlog_bytes(&self) -> u64 {
        let waiting = self.completion.waiting();
        let sent = (0..waiting).filter_map(|ahead| {
            let frame = self.sent_frame(self.completion.peek(ahead, waiting)?)?;
            self.tx_bytes.get(frame as usize).map(|bytes| u64::from(*bytes))
        });
        self.tx_backlog_bytes.saturating_sub(sent.sum())
    }

    /// Shows the kernel the committed frames, and wakes it if it wants to be woken. What it cannot
    /// send now it sends when woken again.
    ///
    /// # Errors
    /// The interface is down or gone.
    pub fn submit(&mut self) -> io::Result<()> {
        self.tx.publish();
        for _ in 0..WAKEUPS_MAX {
            if self.tx.unread() == 0 || !self.tx.needs_wakeup() {
                break;
            }
            match self.wake_tx() {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // More is left than one call sends.
                    Some(errno::EAGAIN) => {}
                    // A queue is full, or the card is being woken.
                    Some(libc::EBUSY | errno::ENOBUFS | errno::ENOMEM | libc::EINTR) => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Whether frames wait that the kernel has not looked at.
    #[inline]
    pub fn has_unsent(&self) -> bool {
        self.tx.unread() > 0
    }

    fn wake_tx(&self) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT;
        let fd = self.fd.as_raw_fd();
        // SAFETY: there is neither a buffer nor an address, of lengths 0.
        check_bytes(unsafe { libc::sendto(fd, ptr::null(), 0, flags, ptr::null(), 0) }).map(drop)
    }

    /// Whether the kernel wants to be woken to receive.
    #[inline]
    pub fn rx_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Wakes the kernel so that it receives; with busy polling this is what receives.
    ///
    /// # Errors
    /// The interface is down or gone.
    pub fn wake_rx(&self) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT;
        let (fd, none) = (self.fd.as_raw_fd(), ptr::null_mut());
        // SAFETY: there is neither a buffer nor room for an address, of length 0.
        let result =
            unsafe { libc::recvfrom(fd, none, 0, flags, ptr::null_mut(), ptr::null_mut()) };
        match check_bytes(result) {
            Err(error) if matches!(error.raw_os_error(), Some(errno::EAGAIN | libc::EBUSY)) => {
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Takes the error that the socket has, such as that its interface is gone.
    ///
    /// # Errors
    /// That error.
    pub fn take_error(&self) -> io::Result<()> {
        match option(self.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }

    /// Counters of the kernel.
    ///
    /// # Errors
    /// None are expected.
    pub fn statistics(&self) -> io::Result<XdpStatistics> {
        let numbers: [u64; 6] = read_option(self.as_fd(), libc::XDP_STATISTICS)?;
        Ok(XdpStatistics {
            rx_dropped: numbers[0],
            tx_invalid: numbers[2],
            rx_ring_full: numbers[3],
            rx_no_frame: numbers[4],
        })
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A frame of its own to write a packet into; dropped, it is free again.
#[derive(Debug)]
pub struct TxFrame<'a> {
    socket: &'a mut XdpSocket,
    /// Counted from the first one for sending.
    frame: u32,
    is_committed: bool,
}

impl TxFrame<'_> {
    fn offset(&self) -> usize {
        (self.socket.config.rx_frames as usize + self.frame as usize)
            * self.socket.config.frame_bytes
    }

    /// The whole frame, with whatever was in it before.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length = self.socket.config.frame_bytes;
        match self.socket.memory.at(self.offset(), length) {
            // SAFETY: the bytes lie within the memory, in a frame that was free, so neither the
            // kernel nor another `TxFrame` has it as long as this borrow lasts.
            Some(place) => unsafe { std::slice::from_raw_parts_mut(place.as_ptr(), length) },
            None => &mut [],
        }
    }

    /// Commits the first `bytes` of the frame, at least 1, to be sent with the next
    /// [`XdpSocket::submit`]. `more`: the packet goes on in the frame committed next, which takes a
    /// socket for packets of several frames.
    #[inline]
    pub fn commit(mut self, bytes: usize, more: bool) {
        let bytes = bytes.clamp(1, self.socket.config.frame_bytes) as u32;
        let options = if more { libc::XDP_PKT_CONTD } else { 0 };
        let descriptor = Descriptor { address: self.offset() as u64, bytes, options };
        // The ring has a place for each frame.
        if self.socket.tx.push(descriptor) {
            self.is_committed = true;
            self.socket.tx_backlog_bytes += u64::from(bytes);
            if let Some(place) = self.socket.tx_bytes.get_mut(self.frame as usize) {
                *place = bytes;
            }
        }
    }
}

impl Drop for TxFrame<'_> {
    fn drop(&mut self) {
        if !self.is_committed {
            self.socket.tx_free.push(self.frame);
        }
    }
}

/// Tells the kernel about the memory for packets, which it pins.
fn register(fd: BorrowedFd<'_>, memory: &Mapping, frame_bytes: usize) -> Result<(), XdpError> {
    let start = memory.at(0, memory.len()).map_or(0, |start| start.as_ptr().expose_provenance());
    // The layout of Linux 5.4: later fields say nothing that is wanted here.
    let region = libc::xdp_umem_reg_v1 {
        addr: start as u64,
        len: memory.len() as u64,
        chunk_size: frame_bytes as u32,
        headroom: 0,
    };
    // SAFETY: pointer and length describe the local `region`, which is only read. The kernel pins
    // the pages that it names, a mapping that nothing else has, for as long as it uses them.
    let result = check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_UMEM_REG,
            (&raw const region).cast(),
            size_of::<libc::xdp_umem_reg_v1>() as libc::socklen_t,
        )
    });
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(errno::ENOBUFS) => {
            Err(XdpError::MemoryLock { bytes: memory.len() })
        }
        Err(error) => Err(XdpError::of(error, "XDP_UMEM_REG")),
    }
}

/// Layouts of the receive, transmit, fill and completion ring.
fn layouts(fd: BorrowedFd<'_>) -> io::Result<[Layout; 4]> {
    let numbers: [u64; 16] = read_option(fd, libc::XDP_MMAP_OFFSETS)?;
    let layout = |ring: usize, mapping: u64| Layout {
        producer: numbers[4 * ring],
        consumer: numbers[4 * ring + 1],
        descriptors: numbers[4 * ring + 2],
        flags: numbers[4 * ring + 3],
        mapping,
    };
    Ok([
        layout(0, libc::XDP_PGOFF_RX_RING as u64),
        layout(1, libc::XDP_PGOFF_TX_RING as u64),
        layout(2, libc::XDP_UMEM_PGOFF_FILL_RING),
        layout(3, libc::XDP_UMEM_PGOFF_COMPLETION_RING),
    ])
}

/// Reads an option that consists of numbers of 64 bits, all of them.
fn read_option<const N: usize>(fd: BorrowedFd<'_>, name: c_int) -> io::Result<[u64; N]> {
    let mut numbers = [0_u64; N];
    let mut length = size_of::<[u64; N]>() as libc::socklen_t;
    // SAFETY: pointer and `length` describe the local `numbers`; the call writes at most `length`
    // bytes there, and every bit pattern is a number.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            name,
            (&raw mut numbers).cast(),
            &raw mut length,
        )
    })?;
    if length as usize == size_of::<[u64; N]>() {
        Ok(numbers)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}
