//! Tests of the store, of turns, and of what sockets of this machine report.

mod icmp;
mod store;
mod turns;
