//! Without memory the engine reports errors or drops and counts packets; it neither panics nor
//! aborts, and goes on when there is memory again. A program of its own, since its allocator is
//! that of all tests in it.

#[allow(dead_code, unused_imports, reason = "shared with the tests of `it`")]
#[path = "it/harness/mod.rs"]
mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use harness::{FULL, Host, Remote, Sent, data_bytes, data_of, exact};
use homa_core::{
    Event, HostBudget, PortError, PortOptions, RequestOptions, ResponseOptions, SendError,
};
use homa_wire::{Ack, AckEntry, Body, Header, Reason};

/// The system's allocator, except that it can run dry for the present thread.
struct Failing;

thread_local! {
    /// Allocations that still succeed; negative: no limit.
    static LEFT: Cell<i64> = const { Cell::new(-1) };
}

impl Failing {
    fn may_allocate() -> bool {
        // Without the variable (a thread that ends) there is no limit.
        LEFT.try_with(|left| match left.get() {
            0 => false,
            n if n < 0 => true,
            n => {
                left.set(n - 1);
                true
            }
        })
        .unwrap_or(true)
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged, or answered with null, which
// means "no memory".
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !Self::may_allocate() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; what this allocator gave out came from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `body` with `allocations` that succeed. An allocation beyond them that cannot report its
/// failure aborts the whole test program, which is the point.
fn with_allocations<T>(allocations: i64, body: impl FnOnce() -> T) -> T {
    LEFT.set(allocations);
    let result = body();
    LEFT.set(-1);
    result
}

/// So many that a fresh engine gets by, whatever it is asked.
const ENOUGH: i64 = 60;

/// A look at all accounts needs memory of its own.
fn unchecked_host() -> Host {
    let mut host = Host::new(exact());
    host.checked = false;
    host
}

fn send(host: &mut Host, remote: &Remote, length: u32) -> Result<homa_core::RpcKey, SendError> {
    let now = host.now();
    host.engine.send_request(now, remote.path(), length, 0, RequestOptions::default())
}

/// An ACK of one RPC.
fn ack(remote: &Remote, id: u64) -> (Header, u32) {
    remote.control(id, Body::Ack(Ack { count: 0, entries: [AckEntry::NONE; 5] }), Reason::None, 0)
}

// Scenario: S15
#[test]
fn a_request_without_memory_is_an_error_and_the_next_one_works() {
    let mut errors = 0;
    for allocations in 0..ENOUGH {
        let mut host = unchecked_host();
        let remote = host.remote(1, 1);
        match with_allocations(allocations, || send(&mut host, &remote, 5000)) {
            Err(error) => {
                assert_eq!(error, SendError::OutOfMemory, "after {allocations} allocations");
                errors += 1;
                assert_eq!(host.stats().live_rpcs, 0);
                send(&mut host, &remote, 5000).unwrap();
            }
            Ok(_) => assert!(allocations > 0),
        }
        host.events();
        // Nothing is forgotten half-way: the request leaves and is watched by its timers.
        assert_eq!(data_bytes(&host.sent()), 5000, "after {allocations} allocations");
        host.pass_ms(2000);
        assert_eq!(host.stats().calls_failed, 1, "after {allocations} allocations");
        host.events();
        assert_eq!(host.stats().live_rpcs, 0);
    }
    assert!(errors >= 10, "{errors} errors only");
}

#[test]
fn the_limit_of_rpcs_is_told_from_a_lack_of_memory() {
    let mut host = Host::new(exact().with(|config| {
        config.limits.max_rpcs = 2;
        config.peers.max = 1;
    }));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    send(&mut host, &a, 1).unwrap();
    assert_eq!(send(&mut host, &b, 1), Err(SendError::PeersLimit));
    send(&mut host, &a, 1).unwrap();
    assert_eq!(send(&mut host, &a, 1), Err(SendError::RpcLimit));
}

#[test]
fn a_port_without_memory_is_an_error() {
    let mut host = unchecked_host();
    let errors = with_allocations(0, || {
        (3000..3100)
            .filter(|port| {
                host.engine.bind_port(*port, PortOptions::SERVE) == Err(PortError::OutOfMemory)
            })
            .count()
    });
    assert!(errors >= 90);
    host.engine.bind_port(5000, PortOptions::SERVE).unwrap();
}

/// Messages from several clients with gaps, longer than the unscheduled part: everything that the
/// receiving side allocates for. Returns how many packets were dropped.
fn arrivals(host: &mut Host, remotes: &[Remote], first_id: u64) -> usize {
    let mut dropped = 0;
    for (n, remote) in remotes.iter().enumerate() {
        let id = first_id + 2 * n as u64;
        for packet in [0, 3, 1, 7, 5] {
            let at = packet * FULL;
            let received = host.receive(remote, remote.data(id, at..at + FULL, 300_000, 40_000));
            dropped += usize::from(matches!(received, homa_core::Received::Dropped(_)));
        }
    }
    dropped
}

fn drops(host: &Host) -> u64 {
    let stats = host.stats();
    stats.dropped_no_memory
        + stats.dropped_limit
        + stats.dropped_duplicate
        + stats.dropped_unknown_rpc
}

// Scenario: R20
#[test]
fn packets_without_memory_are_counted_drops_and_all_messages_complete_later() {
    let mut with_drops = 0;
    for allocations in 0..ENOUGH {
        let mut host = unchecked_host();
        let remotes: Vec<Remote> = (1..12).map(|n| host.remote(n, 1)).collect();
        let before = drops(&host);
        let dropped = with_allocations(allocations, || arrivals(&mut host, &remotes, 2));
        assert_eq!(drops(&host) - before, dropped as u64, "after {allocations} allocations");
        with_drops += usize::from(dropped > 0);
        // Grants, RESENDs, events and the rest must do without memory too.
        without_memory(&mut host);
        complete(&mut host, &remotes, 100);
    }
    assert!(with_drops >= 10, "{with_drops}");
}

/// Lets the engine do what it wants while there is no memory.
fn without_memory(host: &mut Host) {
    let mut segments = vec![homa_core::Segment::EMPTY; 64];
    with_allocations(0, || {
        for _ in 0..200 {
            let now = host.now();
            while host.engine.poll_event().is_some() {}
            while host.engine.poll_transmit(now, &mut segments).is_some() {}
            host.now_ns += 500_000;
            host.engine.handle_timeout(host.now(), true);
        }
    });
}

/// New messages of the same peers arrive whole, are taken and answered.
#[track_caller]
fn complete(host: &mut Host, remotes: &[Remote], first_id: u64) {
    host.sent();
    for (n, remote) in remotes.iter().enumerate() {
        let id = first_id + 2 * n as u64;
        host.take(remote, remote.data(id, 0..300_000, 300_000, 300_000));
        let rpc = host.arrived();
        host.engine.send_response(host.now(), rpc, 10, ResponseOptions::default()).unwrap();
        assert_eq!(data_of(&host.sent()).len(), 1);
        host.take(remote, ack(remote, id));
        host.events();
    }
    // The half-received ones are given up after a while: nothing was lost from the accounts.
    host.pass_ms(10_000);
    host.events();
    let stats = host.stats();
    assert_eq!((stats.live_rpcs, stats.incoming_bytes, stats.receive_memory_bytes), (0, 0, 0));
}

#[test]
fn answers_and_ends_need_no_memory() {
    for allocations in 0..20 {
        let mut host = unchecked_host();
        let remotes: Vec<Remote> = (1..40).map(|n| host.remote(n, 1)).collect();
        let mut rpcs = Vec::new();
        for remote in &remotes {
            host.take(remote, remote.data(2, 0..100, 100, 100));
            rpcs.push(host.arrived());
        }
        host.sent();
        with_allocations(allocations, || {
            for rpc in &rpcs {
                host.engine
                    .send_response(host.now(), *rpc, 60_000, ResponseOptions::default())
                    .unwrap();
            }
            for (remote, _) in remotes.iter().zip(0..20) {
                let _ = host.receive(remote, remote.resend(2, 0, 100));
                let _ = host.receive(remote, remote.grant(2, 60_000, 1));
            }
        });
        without_memory(&mut host);
        with_allocations(0, || {
            for remote in &remotes {
                let _ = host.receive(remote, ack(remote, 2));
            }
        });
        let ended = |event: &Event| matches!(event, Event::Ended { .. });
        let endings = host.events().iter().filter(|event| ended(event)).count();
        assert!(endings <= remotes.len());
        host.pass_ms(10_000);
        host.events();
        assert_eq!(host.stats().live_rpcs, 0);
    }
}

#[test]
fn retransmission_and_failures_of_calls_need_no_memory() {
    for allocations in 0..30 {
        let mut host = unchecked_host();
        let remote = host.remote(1, 1);
        for _ in 0..20 {
            host.call(&remote, 10_000);
        }
        let ids: Vec<u64> = host.sent().iter().map(Sent::id).collect();
        with_allocations(allocations, || {
            for (n, id) in ids.iter().enumerate() {
                let at = (n as u32 % 7) * FULL;
                let _ = host.receive(&remote, remote.resend(id | 1, at, FULL));
            }
        });
        without_memory(&mut host);
        host.pass_ms(5000);
        host.events();
        assert_eq!(host.stats().live_rpcs, 0);
    }
}

#[test]
fn an_engine_shares_its_budget_without_memory() {
    let budget = HostBudget::new(2);
    let host = Host::with_budget(exact(), budget.clone(), 1);
    let clones = with_allocations(0, || [budget.clone(), budget.clone()]);
    assert_eq!(clones[0].slots(), 2);
    drop(host);
}
