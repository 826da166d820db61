//! Random bytes from the system.

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// 16 unpredictable bytes. Waits only while the machine starts and has gathered no randomness yet.
///
/// # Errors
/// The kernel refuses, for instance because a filter of system calls forbids it.
pub fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole.
    let filled = retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
    if filled == bytes.len() { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ_each_time() {
        assert_ne!(random_bytes().unwrap(), random_bytes().unwrap());
    }
}
