//! The tests of the UDP carriage again, over raw IPv4 in packets that look like TCP segments.
#![cfg(not(loom))]
#![allow(clippy::duplicate_mod, reason = "each of these files is a whole, with what it needs")]

#[path = "blocking.rs"]
mod blocking;
#[path = "streaming.rs"]
mod streaming;
