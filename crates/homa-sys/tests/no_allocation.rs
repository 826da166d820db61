//! The packet path must not touch the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};

use homa_sys::udp::Beside;
use homa_sys::{PollFd, Source, UdpSocket, poll_fds};
use std::os::fd::AsFd;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread so that other tests do not disturb.
struct Counting;

// SAFETY: every call is passed on unchanged to `System`, which keeps the contract; counting in a
// constant-initialised thread-local without destructor neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` above, with the same layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sending_receiving_and_reading_errors_do_not_allocate() {
    let from = UdpSocket::bind("[::]:0".parse().unwrap()).unwrap();
    let to = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = to.local_addr().unwrap();
    let dead = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
    let source = Some(Source { ip: IpAddr::from(Ipv4Addr::LOCALHOST), interface: 0 });
    let bytes = [1; 4_000];
    let mut buffer = vec![0; 65_536];

    let before = ALLOCATIONS.get();
    from.send(address, source, 184, Some(400), &[IoSlice::new(&bytes)]).unwrap();
    let mut fds = [PollFd::new(to.as_fd(), true, false)];
    poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap();
    assert_eq!(
        to.recv(&mut buffer, &mut Beside::new()).unwrap().unwrap().gro_segment_bytes,
        Some(400)
    );
    assert_eq!(to.recv(&mut buffer, &mut Beside::new()).unwrap(), None);
    from.send(dead, source, 0, None, &[IoSlice::new(&bytes)]).unwrap();
    let mut fds = [PollFd::new(from.as_fd(), true, false)];
    poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap();
    assert_eq!(from.read_error().unwrap().unwrap().destination, dead);
    assert_eq!(from.read_error().unwrap(), None);
    assert_eq!(ALLOCATIONS.get() - before, 0);

    drop(std::hint::black_box(vec![0_u8; 10]));
    assert_eq!(ALLOCATIONS.get() - before, 1, "the counter counts");
}
