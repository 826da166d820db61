//! Threads that call and serve over loopback.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{SOON, echo_server, pattern};
use homa_transport::{
    AcceptError, CallError, CallErrorKind, Config, Endpoint, EndpointBuilder, Limit, ReplyError,
};

#[test]
fn a_call_comes_back_with_the_servers_answer() {
    let server = echo_server(common::address());
    let client = common::client();
    assert_eq!(client.call(server, "hello").wait().unwrap(), "hello");
    for length in [1, 2, 100, 1_400, 1_401, 10_000, 39_999, 40_000, 40_001, 100_000, 1_000_000] {
        let body = pattern(length);
        assert!(
            client.call(server, body.clone()).wait().unwrap() == body,
            "{length} bytes came back wrong"
        );
    }
}

#[test]
fn a_thousand_calls_at_once_all_come_back_and_none_is_dropped() {
    let server = echo_server(common::address());
    let client = common::client();
    let calls: Vec<_> =
        (0..1_000_u32).map(|number| client.call(server, number.to_be_bytes()).start()).collect();
    for (number, call) in (0..1_000_u32).zip(calls) {
        assert_eq!(call.wait().unwrap(), number.to_be_bytes());
    }
    let stats = client.stats();
    assert_eq!(stats.dropped_by_system, 0);
    assert_eq!(stats.outstanding_calls, 0);
    assert_eq!(stats.outstanding_bytes, 0);
}

#[test]
fn a_call_set_hands_answers_out_as_they_come() {
    let server = echo_server(common::address());
    let client = common::client();
    let mut calls = client.call_set();
    let mut expected = std::collections::HashMap::new();
    for number in 0..64_u32 {
        let id = calls.add(client.call(server, number.to_be_bytes())).wait().unwrap();
        expected.insert(id, number);
    }
    let mut left = 2_000_u32;
    while let Some((id, answer)) = calls.join_next().wait() {
        let number = expected.remove(&id).expect("an answer comes once");
        assert_eq!(answer.unwrap(), number.to_be_bytes());
        if left > 0 {
            left -= 1;
            expected
                .insert(calls.add(client.call(server, left.to_be_bytes())).wait().unwrap(), left);
        }
    }
    assert!(expected.is_empty());
    assert!(calls.is_empty());
}

#[test]
fn a_deadline_ends_a_call_whose_server_is_slow() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client();
    let (start, timeout) = (Instant::now(), Duration::from_secs(1));
    let call = client.call(address, "slow").timeout(timeout).start();
    let _request = server.accept().wait().unwrap();
    common::assert_fails!(call.wait(), CallErrorKind::DeadlineExceeded { .. }, address);
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
}

#[test]
fn a_slow_handler_is_waited_for() {
    let server = common::bind();
    let address = server.local_addr();
    std::thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            std::thread::sleep(Duration::from_millis(1_500));
            request.reply("late").wait().unwrap();
        }
    });
    // One that gives silent servers up before this one answers.
    let client = common::client_with(|builder| builder.config(Config::default()));
    assert_eq!(client.call(address, "?").wait().unwrap(), "late");
}

// Scenario: X6, X25
#[test]
fn dropping_a_call_cancels_the_request_at_the_server() {
    let server = common::bind();
    let client = common::client();
    common::acquaint(&client, &server);
    let call = client.call(server.local_addr(), "never mind").start();
    let request = server.accept().wait().unwrap();
    assert_eq!(request.peer().port(), client.local_addr().port());
    assert!(!request.is_cancelled());
    drop(call);
    let start = Instant::now();
    while !request.is_cancelled() {
        assert!(start.elapsed() < SOON, "the server never noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let error = request.reply("too late").wait().unwrap_err();
    assert!(matches!(error, ReplyError::Cancelled { .. }), "{error}");
}

#[test]
fn dropping_a_request_rejects_the_call() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client();
    common::acquaint(&client, &server);
    std::thread::spawn(move || drop(server.accept().wait().unwrap()));
    let error = client.call(address, "no").wait().unwrap_err();
    // The server's endpoint goes right after its request.
    assert!(matches!(error.kind(), CallErrorKind::Dropped | CallErrorKind::Closing), "{error}");
    assert_eq!(error.server(), Some(address));
}

#[test]
fn a_port_where_nobody_serves_fails_at_once() {
    let other = common::at_server(|| common::builder().client()).unwrap();
    let client = common::client();
    let nobody = SocketAddr::new(common::server_ip(), other.local_addr().port());
    // An endpoint that does not serve says so; nobody waits until it counts as dead.
    common::assert_fails!(client.call(nobody, "?").wait(), common::nobody_serves!(), nobody);

    let unused = common::unused_address();
    // So does the system.
    common::assert_fails!(client.call(unused, "?").wait(), common::nobody_serves!(), unused);
}

// Scenario: C6, X1, X8
#[test]
fn bad_requests_are_refused_before_anything_is_sent() {
    let server = echo_server(common::address());
    let client = common::client();
    common::assert_fails!(
        client.call(server, vec![0; 1_000_001]).wait(),
        CallErrorKind::TooLong { max_bytes: Some(1_000_000), .. },
        server
    );
    for bad in ["127.0.0.1:0", "0.0.0.0:9", "224.0.0.1:9"] {
        let server: SocketAddr = bad.parse().unwrap();
        common::assert_fails!(client.call(server, "?").wait(), CallErrorKind::BadAddress, server);
    }
    let v4 = common::at_server(|| {
        let v4 = common::server_ip_of_each_version()[0];
        common::builder().bind(SocketAddr::new(v4, common::address().port()))
    })
    .unwrap();
    let server: SocketAddr = "[::1]:9".parse().unwrap();
    common::assert_fails!(v4.call(server, "?").wait(), CallErrorKind::BadAddress, server);
    assert_eq!(client.accept().wait().unwrap_err(), AcceptError::NotServing);
    assert_eq!(client.stats().outstanding_calls, 0);
}

#[test]
fn a_call_whose_deadline_has_passed_already_is_not_sent_and_not_executed() {
    let server = common::bind();
    let client = common::client();
    let call = client.call(server.local_addr(), "late").timeout(Duration::ZERO);
    let error = call.wait().unwrap_err();
    assert!(
        matches!(error.kind(), CallErrorKind::DeadlineExceeded { sent: false, .. }),
        "{error:?}"
    );
    assert!(!error.may_have_executed());
    assert_eq!(client.stats().engine.requests_sent, 0);
}

#[test]
fn an_endpoint_and_what_it_hands_out_may_cross_a_caught_panic() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    fn check<T: UnwindSafe + RefUnwindSafe>() {}
    check::<Endpoint>();
    check::<homa_transport::Request>();
    check::<homa_transport::Call>();
    check::<CallError>();
}

#[test]
fn a_request_too_long_for_the_server_fails_with_the_limit_of_the_server() {
    let server = common::bind_with(|builder| builder.max_message_bytes(1000));
    let client = common::client();
    common::acquaint(&client, &server);
    let address = server.local_addr();
    let error = common::assert_fails!(
        client.call(address, vec![0; 5000]).wait(),
        CallErrorKind::TooLong { max_bytes: Some(1000), .. },
        address
    );
    assert!(error.to_string().ends_with("too long: at most 1000 bytes are possible"), "{error}");
    assert!(!error.may_have_executed());
}

#[test]
fn bad_answers_are_refused_and_reject_the_request() {
    let server = common::bind();
    let client = common::client();
    common::acquaint(&client, &server);
    let call = client.call(server.local_addr(), "?").start();
    let request = server.accept().wait().unwrap();
    let error = request.reply(vec![0; 1_000_001]).wait().unwrap_err();
    assert!(matches!(error, ReplyError::TooLong { max_bytes: 1_000_000, .. }), "{error}");
    common::assert_fails!(call.wait(), CallErrorKind::Dropped, server.local_addr());
}

// Scenario: X22, D5
#[test]
fn try_start_names_the_limit_and_a_call_waits_for_room() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client_with(|builder| builder.outstanding_calls_max(2));
    let first = client.call(address, "1").try_start().unwrap();
    let second = client.call(address, "2").try_start().unwrap();
    common::assert_fails!(
        client.call(address, "3").try_start(),
        CallErrorKind::LimitReached(Limit::OutstandingCalls(2)),
        address
    );

    common::assert_fails!(
        client.call(address, "3").timeout(Duration::from_millis(20)).wait(),
        CallErrorKind::DeadlineExceeded { .. },
        address
    );

    let waiting = std::thread::spawn({
        let client = client.clone();
        move || client.call(address, "3").wait().map(|answer| answer.to_vec())
    });
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..3 {
        let request = server.accept().wait().unwrap();
        let answer = request.body().clone();
        request.reply(answer).wait().unwrap();
    }
    assert_eq!(waiting.join().unwrap().unwrap(), b"3");
    assert_eq!(first.wait().unwrap(), "1");
    assert_eq!(second.wait().unwrap(), "2");
}

#[test]
fn bytes_are_limited_too() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client_with(|builder| builder.outstanding_bytes_max(1_000));
    let _call =
        client.call(address, vec![1; 5_000]).try_start().expect("a long message may go alone");
    common::assert_fails!(
        client.call(address, "x").try_start(),
        CallErrorKind::LimitReached(Limit::OutstandingBytes(1_000)),
        address
    );
}

// Scenario: C10
#[test]
fn closing_tells_the_peers_and_ends_everything_here() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client();
    common::acquaint(&client, &server);
    let call = client.call(address, "?").start();
    let request = server.accept().wait().unwrap();
    let own_call = server.call(client.local_addr(), "?").start();
    let accepting = std::thread::spawn({
        let server = server.clone();
        move || server.accept().wait()
    });
    server.close().wait();
    common::assert_fails!(call.wait(), CallErrorKind::Closing, address);
    assert_eq!(accepting.join().unwrap().unwrap_err(), AcceptError::Closed);
    assert_eq!(request.reply("late").wait().unwrap_err(), ReplyError::Closed);
    assert_eq!(server.call(address, "?").wait().unwrap_err().kind(), &CallErrorKind::Closed);
    drop(own_call);
}

#[test]
fn an_answer_is_sent_to_its_end_before_the_endpoint_closes() {
    let server = common::bind();
    let client = common::client();
    let call = client.call(server.local_addr(), "?").start();
    let request = server.accept().wait().unwrap();
    let body = pattern(1_000_000);
    request.reply(body.clone()).wait().unwrap();
    let closing = std::thread::spawn(move || server.close().wait());
    assert!(call.wait().unwrap() == body);
    closing.join().unwrap();
}

#[test]
fn the_port_is_free_when_the_last_handle_is_dropped() {
    let server = common::bind();
    let address = server.local_addr();
    let second = server.clone();
    assert!(common::bind_at(address).is_err(), "in use");
    drop(server);
    assert!(common::bind_at(address).is_err(), "a clone is left");
    drop(second);
    common::bind_at(address).unwrap();
}

// Scenario: C2, C5, X29
#[test]
fn a_port_in_use_is_named() {
    let server = common::bind();
    let error = common::bind_at(server.local_addr()).unwrap_err();
    assert!(error.to_string().contains(&server.local_addr().to_string()), "{error}");
}

// Scenario: X19
#[test]
fn threads_share_an_endpoint() {
    let server = common::bind();
    let address = server.local_addr();
    for _ in 0..3 {
        let server = server.clone();
        std::thread::spawn(move || {
            while let Ok(request) = server.accept().wait() {
                let answer = request.body().clone();
                let _ = request.reply(answer).wait();
            }
        });
    }
    let client = common::client();
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let client = client.clone();
            std::thread::spawn(move || {
                for number in 0..300_u64 {
                    let body = (thread * 1_000 + number).to_be_bytes();
                    assert_eq!(client.call(address, body).wait().unwrap(), body);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_dual_stack_endpoint_serves_both_families() {
    let server = echo_server(common::any_address(true));
    let client = common::client();
    let [v4, v6] = common::server_ip_of_each_version();
    for ip in [v4, v6] {
        let server = SocketAddr::new(ip, server.port());
        assert_eq!(client.call(server, "which?").wait().unwrap(), "which?");
    }
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let server = echo_server(common::any_address(false));
    let client = common::client();
    for ip in [common::server_ip(), common::second_server_ip()] {
        let server = SocketAddr::new(ip, server.port());
        assert_eq!(client.call(server, "where?").wait().unwrap(), "where?");
    }
}

#[test]
fn a_small_receive_buffer_loses_nothing() {
    // On a busy machine it takes long until all that overflowed has come.
    let patient = || {
        Config::default().with(|config| {
            config.recovery.timeout = Duration::from_secs(10);
            config.recovery.finished_memory = Duration::from_secs(20);
            config.responses.silence = Duration::from_secs(20);
        })
    };
    let server =
        common::bind_with(|builder| builder.receive_buffer_bytes(106_496).config(patient()));
    let address = server.local_addr();
    common::serve_echo(server);
    let client =
        common::client_with(|builder| builder.receive_buffer_bytes(106_496).config(patient()));
    let body = pattern(300_000);
    let calls: Vec<_> = (0..20).map(|_| client.call(address, body.clone()).start()).collect();
    for call in calls {
        assert!(call.wait().unwrap() == body);
    }
    let small: Vec<_> =
        (0..500_u32).map(|n| client.call(address, n.to_be_bytes()).start()).collect();
    for (number, call) in small.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), (number as u32).to_be_bytes());
    }
}

// Scenario: X21
#[test]
fn requests_beyond_the_accept_queue_wait_and_none_is_lost() {
    let server = common::bind_with(|builder| builder.accept_queue_max(2));
    let client = common::client();
    let calls: Vec<_> = (0..20_u32)
        .map(|number| client.call(server.local_addr(), number.to_be_bytes()).start())
        .collect();
    for _ in 0..20 {
        let request = server.accept().wait().unwrap();
        assert!(server.stats().requests_waiting <= 2);
        let answer = request.body().clone();
        request.reply(answer).wait().unwrap();
    }
    for (number, call) in (0..20_u32).zip(calls) {
        assert_eq!(call.wait().unwrap(), number.to_be_bytes());
    }
}

#[test]
fn an_unknown_host_is_an_error_of_binding() {
    let error = Endpoint::bind("no.such.host.invalid:1").unwrap_err();
    assert!(matches!(error, homa_transport::BindError::Resolve(_)), "{error}");
}

// Scenario: X29, X30
#[test]
fn a_setting_out_of_range_is_named() {
    let error = EndpointBuilder::new().max_message_bytes(0).client().unwrap_err();
    assert!(error.to_string().contains("max_message_bytes"), "{error}");
}

#[test]
fn a_call_can_be_looked_at_without_waiting() {
    let server = common::bind();
    let client = common::client();
    let mut call = client.call(server.local_addr(), "?").start();
    assert!(call.try_wait().is_none());
    assert!(call.wait_timeout(Duration::from_millis(5)).is_none());
    server.accept().wait().unwrap().reply("now").wait().unwrap();
    let answer = call.wait_timeout(Duration::from_secs(5)).expect("it is on its way");
    assert_eq!(answer.unwrap(), "now");
    assert!(server.accept().wait_timeout(Duration::from_millis(5)).is_none());
}

// Scenario: X18
#[test]
fn busy_polling_works_and_so_does_never_spinning() {
    for busy in [true, false] {
        let server = common::bind_with(|builder| builder.busy_poll(busy).spin(Duration::ZERO));
        let address = server.local_addr();
        std::thread::spawn(move || {
            for _ in 0..100 {
                let request = server.accept().wait().unwrap();
                let answer = request.body().clone();
                request.reply(answer).wait().unwrap();
            }
        });
        let client = common::client_with(|builder| builder.busy_poll(busy).spin(Duration::ZERO));
        for number in 0..100_u32 {
            assert_eq!(
                client.call(address, number.to_be_bytes()).wait().unwrap(),
                number.to_be_bytes()
            );
        }
    }
}
