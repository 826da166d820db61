//! Receive buffers and trains of datagrams, tried on sockets of our own.

use std::{io, net::Ipv4Addr};

use homa_sys::UdpSocket;

use super::finding::Finding;

/// What endpoints ask for, in bytes of the kernel's accounting: twice what the setting counts.
const ASKED_BYTES: usize = 16 << 20;

/// How large a receive buffer endpoints get.
pub(super) fn receive_buffer() -> Finding {
    let check = "receive buffer";
    match socket().and_then(|socket| socket.set_receive_buffer(ASKED_BYTES)) {
        Ok(given) => buffer_of(check, given),
        Err(error) => no_socket(check, &error),
    }
}

fn buffer_of(check: &'static str, given: usize) -> Finding {
    // In the unit of the setting, which users see and change.
    let found = format!("{} of {} bytes, as net.core.rmem_max counts", given / 2, ASKED_BYTES / 2);
    if given >= ASKED_BYTES {
        return Finding::ok(check, found, "Bursts of many senders find room.");
    }
    Finding::warning(
        check,
        found,
        "Receivers grant less at a time, which costs throughput, and bursts of many senders are lost and sent \
         again.\nThe second command keeps it beyond the next start.",
    )
    .mended_by(format!(
        "sudo sysctl -w net.core.rmem_max={0}\n\
         echo net.core.rmem_max={0} | sudo tee /etc/sysctl.d/90-homa.conf",
        ASKED_BYTES / 2
    ))
}

/// Several datagrams per system call, out and in.
pub(super) fn segmentation() -> Finding {
    let check = "UDP trains (GSO, GRO)";
    let socket = match socket() {
        Ok(socket) => socket,
        Err(error) => return no_socket(check, &error),
    };
    match (socket.gso_supported(), socket.gro_supported()) {
        (true, true) => {
            Finding::ok(check, "supported", "Many packets go out and come in by one system call.")
        }
        (gso, gro) => {
            let word = |there| if there { "supported" } else { "missing" };
            let found = format!("sending {}, receiving {}", word(gso), word(gro));
            let meaning =
                "Over UDP each packet costs a system call. A kernel from 5.0 on has both.";
            Finding::warning(check, found, meaning)
        }
    }
}

fn socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())
}

fn no_socket(check: &'static str, error: &io::Error) -> Finding {
    let found = format!("no UDP socket at 127.0.0.1: {error}");
    let meaning = "Nothing works over UDP on this host.";
    Finding::lacking(true, check, found, meaning).mended_by("sudo ip link set lo up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn the_setting_is_half_of_what_the_kernel_counts() {
        assert_eq!(buffer_of("", ASKED_BYTES).state, State::Ok);
        let small = buffer_of("", 425_984);
        assert_eq!(small.state, State::Warning);
        assert_eq!(small.found, "212992 of 8388608 bytes, as net.core.rmem_max counts");
        assert!(small.mend.unwrap().starts_with("sudo sysctl -w net.core.rmem_max=8388608\n"));
    }
}
