//! Where the bytes of incoming messages lie, scenarios B3 to B6, B12, B15 and B16; the account of
//! them is the engine's (`homa-core/tests/it/buffers.rs`).

use homa_core::{PIECE_BYTES, Placement, RpcKey};
use homa_io::store::Store;

const RPC: RpcKey = RpcKey { index: 0, generation: 0 };

/// Bytes `start..end` of a message come, in a packet with a header of 56 bytes.
fn place(store: &mut Store, rpc: RpcKey, (start, end): (u32, u32), message_length: u32) {
    let mut packet = vec![0xFF; 56];
    packet.extend((start..end).map(byte));
    let range = 56..56 + end - start;
    store.place(&Placement { rpc, offset: start, packet: range, message_length }, &packet);
}

fn byte(at: u32) -> u8 {
    (at % 251) as u8
}

fn expected(length: u32) -> Vec<u8> {
    (0..length).map(byte).collect()
}

// Scenario: B15
#[test]
fn bytes_across_the_end_of_a_piece_are_split_over_two_places() {
    let mut store = Store::new();
    let length = PIECE_BYTES + 100;
    place(&mut store, RPC, (65_530, 65_550), length);
    place(&mut store, RPC, (65_550, length), length);
    place(&mut store, RPC, (0, 65_530), length);
    let message = store.take(RPC).expect("all bytes are there");
    let chunks: Vec<usize> = message.chunks().map(|chunk| chunk.len()).collect();
    assert_eq!(chunks, [65_536, 100]);
    assert_eq!(message, expected(length));
}

// Scenario: B3, B4
#[test]
fn a_message_lies_in_whole_pieces_and_a_rest() {
    for (length, places) in [(65_536, &[65_536][..]), (150_000, &[65_536, 65_536, 18_928])] {
        let mut store = Store::new();
        for start in (0..length).step_by(1400) {
            place(&mut store, RPC, (start, length.min(start + 1400)), length);
        }
        let message = store.take(RPC).expect("all bytes are there");
        let lengths: Vec<usize> = message.chunks().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, places);
        assert_eq!(message, expected(length));
    }
}

// Scenario: B16
#[test]
fn a_message_that_ends_before_it_was_taken_leaves_nothing() {
    let mut store = Store::new();
    place(&mut store, RPC, (0, 1400), 150_000);
    place(&mut store, RPC, (70_000, 71_400), 150_000);
    assert!(store.incoming_bytes() > 0);
    store.remove(RPC);
    assert_eq!((store.live(), store.incoming_bytes()), (0, 0));
    let next = RpcKey { generation: 1, ..RPC };
    place(&mut store, next, (0, 100), 100);
    assert_eq!(store.take(next).expect("complete"), expected(100), "nothing of the old one shows");
}

// Scenario: B12
#[test]
fn bytes_that_were_taken_stay_until_their_reader_drops_them() {
    let mut store = Store::new();
    place(&mut store, RPC, (0, PIECE_BYTES), PIECE_BYTES);
    let message = store.take(RPC).expect("complete");
    let first = message.chunks().next().unwrap().as_ptr();
    store.remove(RPC);
    let other = RpcKey { index: 1, generation: 0 };
    place(&mut store, other, (0, PIECE_BYTES), PIECE_BYTES);
    let second = store.take(other).expect("complete");
    assert_ne!(second.chunks().next().unwrap().as_ptr(), first, "the first is still being read");
    assert_eq!(message, expected(PIECE_BYTES));
    drop(message);
    let third = RpcKey { index: 2, generation: 0 };
    place(&mut store, third, (0, PIECE_BYTES), PIECE_BYTES);
    let third = store.take(third).expect("complete");
    assert_eq!(third.chunks().next().unwrap().as_ptr(), first, "now its piece is used again");
}
