//! Facts about network interfaces.

use crate::address;
use crate::call::check;
use std::ffi::CStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::{fs, io, ptr};

/// Speed of the link behind interface `index` in megabits per second, if it is a physical
/// device that knows. Virtual devices invent a number (veth: 10,000) or have none (loopback,
/// most cloud NICs), so they answer `None`.
pub fn link_mbps(index: u32) -> Option<u32> {
    let device = PathBuf::from("/sys/class/net").join(interface_name(index)?);
    if !device.join("device").exists() {
        return None;
    }
    let text = fs::read_to_string(device.join("speed")).ok()?;
    text.trim().parse().ok().filter(|&mbps| mbps > 0 && mbps < i32::MAX as u32)
}

/// Name of interface `index`, if it exists.
pub fn interface_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the array has the `IF_NAMESIZE` bytes that the call may write.
    let result = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if result.is_null() {
        return None;
    }
    Some(CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()?.to_owned())
}

/// Index of the interface that has the local address `ip`; `None` if none has it.
///
/// # Errors
/// The list of interfaces cannot be read (out of memory or descriptors).
pub fn interface_of(ip: IpAddr) -> io::Result<Option<u32>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call stores a list into the local pointer, or fails and stores nothing.
    check(unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = None;
    let mut entry = list;
    while found.is_none() && !entry.is_null() {
        // SAFETY: not null, so it is an entry of the list, which is freed only below.
        let interface = unsafe { &*entry };
        // SAFETY: the address belongs to an entry of the list, which is freed only below.
        if unsafe { entry_ip(interface) } == Some(ip) {
            // SAFETY: the name of an entry is a C string that lives as long as the list.
            found = Some(unsafe { libc::if_nametoindex(interface.ifa_name) });
        }
        entry = interface.ifa_next;
    }
    // SAFETY: `list` came from `getifaddrs` and is not used after this.
    unsafe { libc::freeifaddrs(list) };
    Ok(found.filter(|&index| index != 0))
}

/// The IP address of an entry, if it has one.
///
/// # Safety
/// `interface` must be an entry of a list of `getifaddrs` that has not been freed.
unsafe fn entry_ip(interface: &libc::ifaddrs) -> Option<IpAddr> {
    if interface.ifa_addr.is_null() {
        return None;
    }
    // SAFETY: not null, so it points to an address, each of which starts with its family.
    let family = unsafe { (*interface.ifa_addr).sa_family };
    let length = match i32::from(family) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: an address of that family has at least `length` bytes, all initialised.
    let bytes = unsafe { std::slice::from_raw_parts(interface.ifa_addr.cast::<u8>(), length) };
    Some(address::decode(bytes)?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn loopback_is_found_and_has_no_speed() {
        let index = interface_of(Ipv4Addr::LOCALHOST.into()).unwrap().unwrap();
        assert_eq!(interface_name(index).as_deref(), Some("lo"));
        assert_eq!(link_mbps(index), None);
        let v6 = interface_of(Ipv6Addr::LOCALHOST.into()).unwrap();
        assert!(v6.is_none() || v6 == Some(index));
    }

    #[test]
    fn what_does_not_exist_has_no_name_speed_or_index() {
        assert_eq!(interface_name(u32::MAX), None);
        assert_eq!(link_mbps(u32::MAX), None);
        assert_eq!(interface_of(Ipv4Addr::new(192, 0, 2, 255).into()).unwrap(), None);
    }
}
