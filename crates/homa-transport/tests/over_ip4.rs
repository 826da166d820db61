//! The tests of the UDP carriage again, over raw IPv4 between two network namespaces.
#![cfg(not(loom))]
#![allow(clippy::duplicate_mod, reason = "each of these files is a whole, with what it needs")]

#[path = "asynchronous.rs"]
mod asynchronous;
#[path = "blocking.rs"]
mod blocking;
#[path = "processes.rs"]
mod processes;
#[path = "streaming.rs"]
mod streaming;
