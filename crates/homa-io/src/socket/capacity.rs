//! Capacity of receive buffers.

use crate::driver::RxCapacity;

/// Space of a packet of an Ethernet MTU in a receive buffer, in bytes of the kernel's accounting
/// (measured on Linux 6.18).
const MTU_PACKET_TRUESIZE_BYTES: u64 = 2_304;
/// The same for a packet of up to some hundred bytes.
const SMALL_PACKET_TRUESIZE_BYTES: u64 = 832;
/// Payload in a packet of an Ethernet MTU, the smallest over both IP versions, in round numbers.
const MTU_PACKET_PAYLOAD_BYTES: u64 = 1_400;

/// Capacity of a receive buffer of `bytes` in the kernel's accounting.
pub(crate) fn capacity_of(bytes: u64) -> RxCapacity {
    let small_packets = bytes / SMALL_PACKET_TRUESIZE_BYTES;
    RxCapacity {
        bytes: bytes / MTU_PACKET_TRUESIZE_BYTES * MTU_PACKET_PAYLOAD_BYTES,
        packets: u32::try_from(small_packets).unwrap_or(u32::MAX),
    }
}
