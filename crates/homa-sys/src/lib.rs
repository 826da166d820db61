//! Safe, thin wrappers of the Linux system calls that Homa drivers need and that the standard
//! library does not offer: UDP with segmentation offload, marks per packet and the error queue;
//! event and timer descriptors; clocks; processors; AF_XDP; facts about networks.
//!
//! This is the only crate of the project with `unsafe` code. To keep it small, waiting, clocks and
//! randomness are left to the crate `rustix`, and everything that can be done on plain bytes is:
//! socket addresses ([`address`]), control messages ([`control`]) and the error queue are encoded
//! and decoded with safe code, and `unsafe` is left to the system calls themselves, each with its
//! proof.
//!
//! | module | what |
//! | --- | --- |
//! | [`udp`] | [`UdpSocket`]: trains by `UDP_SEGMENT`, batches by `UDP_GRO`, errors, path MTU |
//! | [`packet`] | [`PacketSocket`]: recording what passes an interface |
//! | [`raw`] | [`RawSocket`]: batches, filters, errors, routes by namespace |
//! | [`xdp`] | [`XdpSocket`]: rings shared with the kernel, and the filter that fills them |
//! | [`netlink`] | routes, neighbours, interfaces, and that they changed |
//! | [`eventfd`], [`timerfd`], [`epoll`], [`poll`] | waiting and being woken |
//! | [`errno`] | error numbers by name |
//! | [`clock`] | monotonic time, processor time |
//! | [`cpu`] | which processors a thread may use |
//! | [`random`] | bytes that nobody can guess |
//! | [`fork`] | noticing that the process is a forked child, running something in one |
//! | [`link`] | speed of a network interface |
//! | [`mask`] | programs that begin with no signal held back |
//! | [`tcp`] | congestion control of a TCP socket, for comparisons |
#![deny(unsafe_op_in_unsafe_fn)]

pub mod address;
mod bpf;
mod call;
pub mod clock;
pub mod control;
pub mod cpu;
mod ebpf;
pub mod epoll;
pub mod errno;
pub mod eventfd;
pub mod fork;
pub mod link;
pub mod mask;
pub mod netlink;
pub mod packet;
pub mod poll;
pub mod random;
pub mod raw;
pub mod tcp;
pub mod timerfd;
pub mod udp;
pub mod xdp;

pub use clock::{monotonic_ns, process_cpu_time_ns, thread_cpu_time_ns};
pub use cpu::{available_cpus, set_thread_affinity};
pub use epoll::Epoll;
pub use eventfd::EventFd;
pub use fork::{fork_generation, forked_since, in_forked_child};
pub use link::{interface_of, link_mbps};
pub use mask::start_unmasked;
pub use packet::PacketSocket;
pub use poll::{PollFd, poll_fds};
pub use random::random_bytes;
pub use raw::RawSocket;
pub use tcp::set_tcp_congestion;
pub use timerfd::TimerFd;
pub use udp::{Received, SocketError, Source, UdpSocket, path_mtu, source_ip};
pub use xdp::XdpSocket;
