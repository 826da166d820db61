//! Bodies that are read while they arrive and supplied while they are sent.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{SOON, echo_server, pattern};
use homa_transport::blocking::Endpoint;
use homa_transport::{CallError, CallOptions, EndpointBuilder, StreamError};

const LARGE_BYTES: usize = 20 << 20;

fn builder() -> EndpointBuilder {
    common::builder().max_message_bytes(32 << 20)
}

fn bind() -> Endpoint {
    common::at_server(|| builder().bind_blocking(common::address())).unwrap()
}

fn client() -> Endpoint {
    common::at_client(|| builder().client_blocking()).unwrap()
}

/// As [`common::acquaint`] with a server that streams.
fn acquaint(client: &Endpoint, server: &Endpoint) {
    common::acquaint_by(client, server, || {
        let request = server.accept_streaming().unwrap().unwrap().collect().unwrap();
        request.reply("hello").unwrap();
    });
}

fn streaming_server() -> Endpoint {
    let builder = builder().streaming_requests(true);
    common::at_server(|| builder.bind_blocking(common::address())).unwrap()
}

/// Reads a body to its end and compares it.
fn check(mut chunk: impl FnMut() -> Option<Bytes>, expected: &[u8]) {
    let mut at = 0;
    while let Some(piece) = chunk() {
        assert!(piece == expected[at..at + piece.len()], "wrong bytes at {at}");
        at += piece.len();
    }
    assert_eq!(at, expected.len());
}

#[test]
fn the_first_byte_of_a_request_is_readable_before_the_last_is_sent() {
    let server = streaming_server();
    let client = client();
    acquaint(&client, &server);
    let body = pattern(LARGE_BYTES);
    let (read_some, go_on) = mpsc::channel();
    let serving = std::thread::spawn({
        let (server, expected) = (server.clone(), body.clone());
        move || {
            let mut request = server.accept_streaming().unwrap().unwrap();
            assert_eq!(request.body_bytes() as usize, expected.len());
            let first = request.chunk().unwrap().expect("the first bytes come before the pause");
            assert!(first == expected[..first.len()]);
            let mut at = first.len();
            read_some.send(()).unwrap();
            while let Some(piece) = request.chunk().unwrap() {
                assert!(piece == expected[at..at + piece.len()], "wrong bytes at {at}");
                at += piece.len();
            }
            assert_eq!(at, expected.len());
            request.reply("got it").unwrap();
        }
    });
    let (mut sender, response) = client
        .start_streaming(server.local_addr(), LARGE_BYTES as u32, CallOptions::new())
        .unwrap();
    let bytes = Bytes::from(body);
    sender.send(bytes.slice(..10_000)).unwrap();
    // The pause lasts until the server has read something.
    go_on.recv_timeout(Duration::from_secs(10)).expect("it reads while the sender pauses");
    for at in (10_000..LARGE_BYTES).step_by(300_000) {
        sender.send(bytes.slice(at..(at + 300_000).min(LARGE_BYTES))).unwrap();
    }
    assert_eq!(sender.missing_bytes(), 0);
    sender.finish().unwrap();
    assert_eq!(response.message().unwrap(), "got it");
    serving.join().unwrap();
}

#[test]
fn the_first_byte_of_an_answer_is_readable_before_the_last_is_sent() {
    let server = bind();
    let client = client();
    common::acquaint(&client, &server);
    let body = pattern(LARGE_BYTES);
    let (read_some, go_on) = mpsc::channel();
    let serving = std::thread::spawn({
        let (server, body) = (server.clone(), Bytes::from(body.clone()));
        move || {
            let request = server.accept().unwrap().unwrap();
            let mut sender = request.reply_streaming(LARGE_BYTES as u32).unwrap();
            sender.send(body.slice(..5_000)).unwrap();
            go_on.recv_timeout(Duration::from_secs(10)).expect("it reads while the sender pauses");
            for at in (5_000..LARGE_BYTES).step_by(70_000) {
                sender.send(body.slice(at..(at + 70_000).min(LARGE_BYTES))).unwrap();
            }
            sender.finish().unwrap();
        }
    });
    let mut answer =
        client.call_streaming(server.local_addr(), "all, please", CallOptions::new()).unwrap();
    assert_eq!(answer.body_bytes() as usize, LARGE_BYTES);
    let first = answer.chunk().unwrap().unwrap();
    assert!(first == body[..first.len()]);
    read_some.send(()).unwrap();
    check(|| answer.chunk().unwrap(), &body[first.len()..]);
    serving.join().unwrap();
    server.close();
}

#[test]
fn a_slow_reader_holds_the_sender_back_and_gets_everything() {
    let server = streaming_server();
    let client = client();
    acquaint(&client, &server);
    let body = Bytes::from(pattern(6 << 20));
    let address = server.local_addr();
    let sending = std::thread::spawn({
        let body = body.clone();
        move || client.call(address, body).map(|answer| answer.to_vec())
    });
    let mut request = server.accept_streaming().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let held = server.stats().engine.receive_memory_bytes;
    assert!(held <= 3 << 20, "{held} bytes wait unread");
    check(|| request.chunk().unwrap(), &body);
    request.reply("done").unwrap();
    assert_eq!(sending.join().unwrap().unwrap(), b"done");
}

#[test]
fn a_whole_answer_can_be_read_as_a_stream_and_a_stream_collected() {
    let server = echo_server(common::address());
    let client = common::client();
    for length in [1, 1_000, 500_000] {
        let body = pattern(length);
        let answer = client.call_streaming(server, body.clone(), CallOptions::new()).unwrap();
        assert!(answer.collect().unwrap() == body);
    }
}

#[test]
fn a_request_can_be_collected_or_answered_before_its_end() {
    let server = streaming_server();
    let address = server.local_addr();
    let client = client();
    acquaint(&client, &server);
    let body = pattern(3 << 20);
    std::thread::spawn({
        let expected = body.clone();
        move || {
            let request = server.accept_streaming().unwrap().unwrap().collect().unwrap();
            assert!(*request.body() == expected);
            request.reply("collected").unwrap();
            let request = server.accept_streaming().unwrap().unwrap();
            request.reply("unread").unwrap();
            let _ = server.accept_streaming();
        }
    });
    assert_eq!(client.call(address, body.clone()).unwrap(), "collected");
    assert_eq!(client.call(address, body).unwrap(), "unread");
}

#[test]
fn a_body_that_ends_early_aborts_the_call_on_both_sides() {
    let server = streaming_server();
    let client = client();
    let address = server.local_addr();
    let (mut sender, response) =
        client.start_streaming(address, 1_000_000, CallOptions::new()).unwrap();
    sender.send(pattern(200_000)).unwrap();
    let mut request = server.accept_streaming().unwrap().unwrap();
    assert!(request.chunk().unwrap().is_some());
    let error = sender.finish().unwrap_err();
    assert!(matches!(error, StreamError::Incomplete { missing_bytes: 800_000, .. }), "{error}");
    common::assert_fails!(
        response.message().unwrap_err(),
        CallError::BodyIncomplete { .. },
        address
    );
    let error = loop {
        match request.chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the body never ends"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StreamError::Cancelled { .. }), "{error}");
}

#[test]
fn more_than_announced_is_refused() {
    let server = streaming_server();
    let client = client();
    let (mut sender, _response) =
        client.start_streaming(server.local_addr(), 10, CallOptions::new()).unwrap();
    sender.send("12345").unwrap();
    let error = sender.send("6789012").unwrap_err();
    assert!(matches!(error, StreamError::TooLong { announced_bytes: 10, .. }), "{error}");
    assert_eq!(sender.missing_bytes(), 5);
}

#[test]
fn dropping_an_answer_halfway_leaves_nothing_behind() {
    let server = echo_server_of(8 << 20);
    let client = client();
    // The first call tells a raw peer what the server is.
    assert_eq!(client.call(server, "hello").unwrap(), "hello");
    let mut answer = client.call_streaming(server, vec![1; 8 << 20], CallOptions::new()).unwrap();
    assert!(answer.chunk().unwrap().is_some());
    drop(answer);
    // Whoever drives executes it.
    let start = Instant::now();
    while client.stats().outstanding_calls > 0 || client.stats().engine.receive_memory_bytes > 0 {
        assert!(start.elapsed() < SOON, "{:?}", client.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.call(server, "next").unwrap(), "next");
}

fn echo_server_of(bytes: u32) -> std::net::SocketAddr {
    let server = common::bind_with(|builder| builder.max_message_bytes(bytes));
    let address = server.local_addr();
    common::serve_echo(server);
    address
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn streams_work_in_a_runtime_too() {
    let server = builder().streaming_requests(true);
    let server = common::at_server(|| server.bind(common::address())).unwrap();
    let address = server.local_addr();
    let client = common::at_client(|| builder().client()).unwrap();
    if common::is_raw() {
        let call = client.start(address, "hello");
        let request = server.accept_streaming().await.unwrap().unwrap().collect().await.unwrap();
        request.reply("hello").await.unwrap();
        call.await.unwrap();
    }
    let expected = pattern(2 << 20);
    let echo = tokio::spawn(async move {
        // Whole bodies are held here: what is streamed is reading and answering.
        let mut request = server.accept_streaming().await.unwrap().unwrap();
        let (mut pieces, length) = (Vec::new(), request.body_bytes());
        while let Some(piece) = request.chunk().await.unwrap() {
            pieces.push(piece);
        }
        let mut sender = request.into_responder().reply_streaming(length).unwrap();
        for piece in pieces {
            sender.send(piece).await.unwrap();
        }
        sender.finish().unwrap();
        server.close().await;
    });
    let (mut sender, response) =
        client.start_streaming(address, 2 << 20, CallOptions::new()).await.unwrap();
    for piece in expected.chunks(100_000) {
        sender.send(piece.to_vec()).await.unwrap();
    }
    sender.finish().unwrap();
    let mut answer = response.stream().await.unwrap();
    let mut at = 0;
    while let Some(piece) = answer.chunk().await.unwrap() {
        assert!(piece == expected[at..at + piece.len()]);
        at += piece.len();
    }
    assert_eq!(at, expected.len());
    echo.await.unwrap();
}
