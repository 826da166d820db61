//! AF_XDP: packets of chosen ports come from a network interface directly into memory of the
//! process, and leave from there, beside the kernel's network stack.
//!
//! * [`XdpSocket`] has the memory (UMEM) and the four rings of one queue of an interface. It owns
//!   all frames: a received packet is lent to a closure and goes back, a frame to send is lent
//!   until it is committed and comes back when the kernel has sent it.
//! * [`XdpFilter`] is the program at the interface: it redirects packets of one port to the
//!   sockets and leaves all others to the kernel. It goes with the process.
//!
//! Source: `Documentation/networking/af_xdp.rst` and `linux/if_xdp.h` of Linux.

mod error;
mod filter;
mod memory;
mod ring;
mod socket;

pub use error::XdpError;
pub use filter::{AttachMode, XdpFilter};
pub use socket::{BindMode, HEADROOM_BYTES, TxFrame, XdpSocket, XdpSocketConfig, XdpStatistics};

/// Linux version from which on everything is there that the driver needs.
const NEEDED_VERSION: (u32, u32) = (5, 11);

/// The version of the kernel in use, as far as it matters.
///
/// # Errors
/// [`XdpError::OldKernel`] if it is older than 5.11.
pub fn check_kernel() -> Result<(), XdpError> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    match version(&release) {
        Some(found) if found < NEEDED_VERSION => {
            Err(XdpError::OldKernel { release: release.into_owned() })
        }
        // What cannot be read is no reason to refuse.
        _ => Ok(()),
    }
}

/// The first two numbers of a release, as in `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.9-rc1"), Some((5, 9)));
        assert!(version("5.9").unwrap() < NEEDED_VERSION);
        assert!(version("5.11.0").unwrap() >= NEEDED_VERSION);
        assert_eq!(version("strange"), None);
        check_kernel().unwrap();
    }
}
