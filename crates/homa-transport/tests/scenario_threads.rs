//! What several threads do at the same moment: scenario K12.

use std::sync::{Arc, Barrier};

use homa_transport::Endpoint;

// Scenario: K12
#[test]
fn threads_that_call_a_new_peer_at_once_make_one_record_of_it() {
    const THREADS: usize = 8;
    let server = Endpoint::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    std::thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            let _ = request.reply("here").wait();
        }
    });
    let client = Endpoint::client().unwrap();
    assert_eq!(client.stats().engine.live_peers, 0);
    let start = Arc::new(Barrier::new(THREADS));
    let callers: Vec<_> = (0..THREADS)
        .map(|_| {
            let (client, start) = (client.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                assert_eq!(client.call(address, "where?").wait().unwrap(), "here");
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let stats = client.stats().engine;
    assert_eq!((stats.live_peers, stats.requests_sent), (1, THREADS as u64));
}
