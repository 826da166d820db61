//! Switching features of a network device off, by generic netlink (the kernel's
//! Documentation/networking/ethtool-netlink.rst).

use std::io;

use netlink_sys::{Socket, protocols::NETLINK_GENERIC};

use crate::{LabError, namespace::NetNs};

/// Message types and flags of netlink.
const NLMSG_ERROR: u16 = 2;
const CONTROL_FAMILY: u16 = 0x10;
const REQUEST: u16 = 1;
const ACK: u16 = 4;

/// Commands and attributes of the control family.
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Commands and attributes of the ethtool family.
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const HEADER_DEVICE_NAME: u16 = 2;
const HEADER_FLAGS: u16 = 3;
const OMIT_REPLY: u32 = 2;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const NESTED: u16 = 1 << 15;

/// Switches a feature such as `tx-checksum-ip-generic` of a device off.
pub(crate) fn switch_off(net: &NetNs, device: &str, features: &[&str]) -> Result<(), LabError> {
    net.run(|| switch_off_here(device, features)).map_err(|error| {
        LabError::setup(format!("switch {} of {device} off", features.join(", ")), error)
    })
}

fn switch_off_here(device: &str, features: &[&str]) -> io::Result<()> {
    let netlink = Socket::new(NETLINK_GENERIC)?;
    let question =
        message(CONTROL_FAMILY, REQUEST, GET_FAMILY, &attribute(FAMILY_NAME, &text("ethtool")));
    let answer = exchange(&netlink, &question)?;
    // Behind the headers of netlink (16 bytes) and generic netlink (4).
    let family = answer
        .get(20..)
        .and_then(|attributes| find(attributes, FAMILY_ID))
        .and_then(|value| Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?)))
        .ok_or_else(|| io::Error::other("this kernel has no ethtool family"))?;
    let request = message(family, REQUEST | ACK, FEATURES_SET, &wanted(device, features));
    exchange(&netlink, &request).map(drop)
}

/// A bitset of the features with no bit set: exactly those named are cleared.
fn wanted(device: &str, features: &[&str]) -> Vec<u8> {
    let mut header = attribute(HEADER_DEVICE_NAME, &text(device));
    header.extend(attribute(HEADER_FLAGS, &OMIT_REPLY.to_ne_bytes()));
    let bits: Vec<u8> = features
        .iter()
        .flat_map(|name| attribute(BITS_BIT | NESTED, &attribute(BIT_NAME, &text(name))))
        .collect();
    let bitset = attribute(BITSET_BITS | NESTED, &bits);
    let mut attributes = attribute(FEATURES_HEADER | NESTED, &header);
    attributes.extend(attribute(FEATURES_WANTED | NESTED, &bitset));
    attributes
}

/// Sends a message and returns the first one that comes back, errors as such.
fn exchange(netlink: &Socket, request: &[u8]) -> io::Result<Vec<u8>> {
    netlink.send(request, 0)?;
    let (answer, _kernel) = netlink.recv_from_full()?;
    let word = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if word(4) == Some(NLMSG_ERROR) {
        let code = answer
            .get(16..20)
            .and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)))
            .unwrap_or(0);
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
        }
    }
    Ok(answer)
}

fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (20 + attributes.len()) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: one question at a time needs neither.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// An attribute: length, type, value, padding to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == wanted {
            return attributes.get(4..length);
        }
        // An attribute is at least its own header; anything else would go on for ever.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_nonsense_ends() {
        let mut bytes = attribute(7, b"x");
        bytes.extend(attribute(FAMILY_ID, &21u16.to_ne_bytes()));
        assert_eq!(bytes.len(), 16);
        assert_eq!(find(&bytes, FAMILY_ID), Some(&21u16.to_ne_bytes()[..]));
        assert_eq!(find(&bytes, 9), None);
        assert_eq!(find(&[0; 64], 9), None);
    }
}
