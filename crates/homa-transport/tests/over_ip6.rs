//! The tests of the UDP carriage again, over raw IPv6 between two network namespaces.
#![cfg(not(loom))]

#[path = "asynchronous.rs"]
mod asynchronous;
#[path = "blocking.rs"]
mod blocking;
#[path = "processes.rs"]
mod processes;
#[path = "streaming.rs"]
mod streaming;
