//! Requests that name their call and order their answer; answers that name who made them. Every
//! byte behind that follows from the names, so that bytes of another message, or of two, are found.
//!
//! | offset | request | answer |
//! | --- | --- | --- |
//! | 0 | number of the call (u64) | number of the call (u64) |
//! | 8 | length of the answer (u32) | life of the server that made it (u64) |
//! | 12 | time to work, in ms (u32); 2^32 - 1: until told to answer | |
//! | 16 | pattern | pattern |
//!
//! Numbers are little endian.

use bytes::Bytes;

use crate::body::{first_wrong, pattern};

/// Length of the part that names things, and so of the shortest message, in bytes.
pub(super) const HEAD_BYTES: usize = 16;

/// A time to work that ends when the server is told to answer.
pub(super) const HOLD: u32 = u32::MAX;

/// What a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// Number of the call.
    pub call: u64,
    /// Length of the answer in bytes.
    pub answer_bytes: u32,
    /// Time to work in milliseconds, or [`HOLD`].
    pub work_ms: u32,
}

impl Order {
    /// A request of so many bytes, at least [`HEAD_BYTES`].
    pub(super) fn request(self, bytes: usize) -> Bytes {
        let second = u64::from(self.answer_bytes) | u64::from(self.work_ms) << 32;
        message(self.call, second, bytes)
    }

    /// What a request says, if all of it is as it was made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(request: &[u8]) -> Result<Self, String> {
        let (call, second) = check(request)?;
        let (answer_bytes, work_ms) = (second as u32, (second >> 32) as u32);
        Ok(Order { call, answer_bytes, work_ms })
    }

    /// The answer of this life of a server.
    pub(super) fn answer(self, life: u64) -> Bytes {
        message(self.call, life, self.answer_bytes as usize)
    }

    /// The life of the server that made an answer, if all of it is as it was made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read_answer(self, answer: &[u8]) -> Result<u64, String> {
        let (call, life) = check(answer)?;
        if call != self.call {
            return Err(format!("it answers call {call}"));
        }
        let expected = HEAD_BYTES.max(self.answer_bytes as usize);
        match answer.len() == expected {
            true => Ok(life),
            false => Err(format!("it has {} bytes instead of {expected}", answer.len())),
        }
    }
}

fn message(call: u64, second: u64, bytes: usize) -> Bytes {
    let mut message = Vec::with_capacity(bytes.max(HEAD_BYTES));
    message.extend_from_slice(&call.to_le_bytes());
    message.extend_from_slice(&second.to_le_bytes());
    message.extend_from_slice(&pattern(seed(call, second), bytes.saturating_sub(HEAD_BYTES)));
    message.into()
}

/// The two numbers at the front of a message, if they fit what follows.
fn check(message: &[u8]) -> Result<(u64, u64), String> {
    let Some((head, rest)) = message.split_first_chunk::<HEAD_BYTES>() else {
        return Err(format!("it has only {} bytes", message.len()));
    };
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    let (call, second) = (number(0), number(8));
    match first_wrong(seed(call, second), 0, rest) {
        None => Ok((call, second)),
        Some(at) => Err(format!("byte {} of {} is wrong", at + HEAD_BYTES as u64, message.len())),
    }
}

fn seed(call: u64, second: u64) -> u64 {
    call.rotate_left(32) ^ second.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_message_are_found() {
        let order = Order { call: 7, answer_bytes: 1_000, work_ms: HOLD };
        assert_eq!(Order::read(&order.request(300)), Ok(order));
        let (mine, other) = (order.answer(1), order.answer(2));
        assert_eq!(order.read_answer(&mine), Ok(1));
        let joined = [&mine[..500], &other[500..]].concat();
        assert_eq!(order.read_answer(&joined), Err("byte 500 of 1000 is wrong".to_owned()));
        let another = Order { call: 8, ..order };
        assert!(another.read_answer(&mine).is_err());
        let longer = Order { answer_bytes: 1_001, ..order };
        assert!(longer.read_answer(&mine).is_err());
        assert!(Order::read(b"short").is_err());
    }
}
