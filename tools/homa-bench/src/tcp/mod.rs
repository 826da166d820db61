//! RPCs over TCP, with everything a careful program does: what Homa is compared with.
//!
//! A frame is a header of 12 bytes (length of the body as `u32`, RPC id as `u64`, both little
//! endian) and the body. NODELAY is set, large bodies are written without being copied, and receive
//! buffers are left to the kernel's autotuning, which beats any fixed size. Small frames leave one
//! by one, as in most RPC libraries, or share a `write`, which is the best a program can do that
//! makes many calls at a time; see [`Writes`].

pub mod frame;
mod host;
pub mod output;
pub mod socket;

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::host::Host;

/// What a thread does while nothing has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// It sleeps in the kernel.
    Sleep,
    /// It polls without pause.
    Busy,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Wait::Sleep => "sleep",
            Wait::Busy => "busy",
        })
    }
}

/// How a client that has several calls to make, and the server that answers them, hand the frames
/// to the kernel. Reads always take all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// Each frame by a write of its own when it is made, as RPC libraries that set NODELAY usually
    /// do.
    Each,
    /// All frames of a turn in one write: the ideal of pipelining, for programs that make their
    /// calls in groups and can let the first wait for the last.
    Gathered,
}

/// Settings of a [`Host`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What its thread does while nothing has arrived.
    pub wait: Wait,
    /// How it writes.
    pub writes: Writes,
    /// Connections to each server.
    pub connections: usize,
    /// Congestion control by its name in the kernel, such as `cubic`; none keeps the system's.
    pub congestion: Option<String>,
    /// The longest message it accepts, in bytes.
    pub message_bytes_max: usize,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request itself.
    Echo,
    /// These bytes.
    Bytes(Bytes),
}

/// When an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    AtOnce,
    /// This long after its request arrived.
    After(Duration),
    /// This long after the one before, as from a server that works on one request at a time.
    OneByOne(Duration),
}
