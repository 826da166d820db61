//! Driving: the thread or task that waits runs the protocol.
//!
//! Three small pieces, none of which does I/O, so that loom can try their interleavings, with at
//! most three preemptions each:
//!
//! * [`inbox`]: operations for the state behind the lock. The caller that adds one either becomes
//!   its *attendant*, which must execute it, or finds one that cannot leave before it is executed.
//! * [`seat`]: one waiter at a time holds the seat, which means that it looks after socket and
//!   timers, asleep or not. Leaving passes the seat to a blocked waiter. Every turn reports its
//!   next deadline to the seat; a sleeper whose deadline moved earlier is woken.
//! * [`wait`]: how a thread waits: take the seat and lead, or block until ready or promoted.
//!
//! What is left to the operating system is in [`parker`] (how a thread sleeps); the endpoint's
//! core implements [`wait::Host`]. The guard thread ([`guard`]) takes a seat that was left empty,
//! and executes operations for later that nobody flushes; it hears of them by a note ([`batches`]).
//!
//! Check them with
//! `RUSTFLAGS="--cfg loom" cargo test -p homa-transport --no-default-features --lib --release`.

pub(crate) mod batches;
pub(crate) mod guard;
pub(crate) mod inbox;
#[cfg(not(loom))]
pub(crate) mod parker;
pub(crate) mod seat;
pub(crate) mod sync;
pub(crate) mod wait;

#[cfg(all(test, loom))]
mod loom_tests;
