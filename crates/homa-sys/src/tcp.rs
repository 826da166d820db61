//! The congestion control of a TCP socket, for comparisons of Homa with TCP.

use crate::call::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Selects the congestion control of a TCP socket by name, such as `"cubic"` or `"dctcp"`.
///
/// # Errors
/// `NotFound` if the kernel does not have it; `PermissionDenied` if it is reserved for
/// privileged users; not a TCP socket.
pub fn set_tcp_congestion(socket: impl AsFd, name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`, which is only read (the kernel takes the
    // length and needs no final zero); the descriptor is open because it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            libc::socklen_t::try_from(name.len()).unwrap_or(libc::socklen_t::MAX),
        )
    };
    check(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn reno_is_always_there_and_nonsense_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_tcp_congestion(&listener, "reno").unwrap();
        let error = set_tcp_congestion(&listener, "no such control").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(set_tcp_congestion(&udp, "reno").is_err());
    }
}
