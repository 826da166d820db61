//! Bodies that are read while they arrive and supplied while they are sent.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{SOON, echo_server, pattern};
use homa_transport::{BodyReader, CallErrorKind, Endpoint, EndpointBuilder, StreamError};

const LARGE_BYTES: usize = 20 << 20;

fn long_messages(builder: EndpointBuilder) -> EndpointBuilder {
    builder.max_message_bytes(32 << 20)
}

fn client() -> Endpoint {
    common::client_with(long_messages)
}

/// As [`common::acquaint`] with a server that streams.
fn acquaint(client: &Endpoint, server: &Endpoint) {
    common::acquaint_by(client, server, || {
        let request = server.accept_streaming().wait().unwrap().collect().wait().unwrap();
        request.reply("hello").wait().unwrap();
    });
}

fn streaming_server() -> Endpoint {
    common::bind_with(|builder| long_messages(builder).streaming_requests(true))
}

/// Reads a body to its end and compares it.
fn check(body: &mut BodyReader, expected: &[u8]) {
    let mut at = 0;
    while let Some(piece) = body.chunk().wait().unwrap() {
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
            let (mut body, responder) = server.accept_streaming().wait().unwrap().split();
            assert_eq!(body.body_bytes().unwrap() as usize, expected.len());
            let first = body.chunk().wait().unwrap().expect("some bytes come before the pause");
            assert!(first == expected[..first.len()]);
            read_some.send(()).unwrap();
            check(&mut body, &expected[first.len()..]);
            responder.reply("got it").wait().unwrap();
        }
    });
    let (mut sender, response) = client
        .call_streaming(server.local_addr())
        .length(LARGE_BYTES as u32)
        .open()
        .wait()
        .unwrap();
    let bytes = Bytes::from(body);
    sender.send(bytes.slice(..10_000)).wait().unwrap();
    // The pause lasts until the server has read something.
    go_on.recv_timeout(Duration::from_secs(10)).expect("it reads while the sender pauses");
    for at in (10_000..LARGE_BYTES).step_by(300_000) {
        sender.send(bytes.slice(at..(at + 300_000).min(LARGE_BYTES))).wait().unwrap();
    }
    assert_eq!(sender.missing_bytes(), Some(0));
    sender.finish().unwrap();
    assert_eq!(response.wait().unwrap(), "got it");
    serving.join().unwrap();
}

#[test]
fn the_first_byte_of_an_answer_is_readable_before_the_last_is_sent() {
    let server = common::bind_with(long_messages);
    let client = client();
    common::acquaint(&client, &server);
    let body = pattern(LARGE_BYTES);
    let (read_some, go_on) = mpsc::channel();
    let serving = std::thread::spawn({
        let (server, body) = (server.clone(), Bytes::from(body.clone()));
        move || {
            let request = server.accept().wait().unwrap();
            let mut sender = request.reply_streaming(LARGE_BYTES as u32).unwrap();
            sender.send(body.slice(..5_000)).wait().unwrap();
            go_on.recv_timeout(Duration::from_secs(10)).expect("it reads while the sender pauses");
            for at in (5_000..LARGE_BYTES).step_by(70_000) {
                sender.send(body.slice(at..(at + 70_000).min(LARGE_BYTES))).wait().unwrap();
            }
            sender.finish().unwrap();
        }
    });
    let mut answer = client.call(server.local_addr(), "all, please").reader().wait().unwrap();
    assert_eq!(answer.body_bytes().unwrap() as usize, LARGE_BYTES);
    let first = answer.chunk().wait().unwrap().unwrap();
    assert!(first == body[..first.len()]);
    read_some.send(()).unwrap();
    check(&mut answer, &body[first.len()..]);
    serving.join().unwrap();
    server.close().wait();
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
        move || client.call(address, body).wait().map(|answer| answer.to_vec())
    });
    let (mut reader, responder) = server.accept_streaming().wait().unwrap().split();
    std::thread::sleep(Duration::from_millis(300));
    let held = server.stats().engine.receive_memory_bytes;
    assert!(held <= 3 << 20, "{held} bytes wait unread");
    check(&mut reader, &body);
    responder.reply("done").wait().unwrap();
    assert_eq!(sending.join().unwrap().unwrap(), b"done");
}

#[test]
fn a_whole_answer_can_be_read_as_a_stream_and_a_stream_collected() {
    let server = echo_server(common::address());
    let client = common::client();
    for length in [1, 1_000, 500_000] {
        let body = pattern(length);
        let answer = client.call(server, body.clone()).reader().wait().unwrap();
        assert!(answer.collect().wait().unwrap() == body);
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
            let request = server.accept_streaming().wait().unwrap().collect().wait().unwrap();
            assert!(*request.body() == expected);
            request.reply("collected").wait().unwrap();
            // Dropping the reader lets the rest come.
            let (_, responder) = server.accept_streaming().wait().unwrap().split();
            responder.reply("unread").wait().unwrap();
            let _ = server.accept_streaming().wait();
        }
    });
    assert_eq!(client.call(address, body.clone()).wait().unwrap(), "collected");
    assert_eq!(client.call(address, body).wait().unwrap(), "unread");
}

#[test]
fn a_body_that_ends_early_aborts_the_call_on_both_sides() {
    let server = streaming_server();
    let client = client();
    let address = server.local_addr();
    let (mut sender, response) =
        client.call_streaming(address).length(1_000_000).open().wait().unwrap();
    sender.send(pattern(200_000)).wait().unwrap();
    let (mut body, _responder) = server.accept_streaming().wait().unwrap().split();
    assert!(body.chunk().wait().unwrap().is_some());
    let error = sender.finish().unwrap_err();
    assert!(matches!(error, StreamError::Incomplete { missing_bytes: 800_000, .. }), "{error}");
    common::assert_fails!(response.wait(), CallErrorKind::BodyIncomplete, address);
    let error = loop {
        match body.chunk().wait() {
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
        client.call_streaming(server.local_addr()).length(10).open().wait().unwrap();
    sender.send("12345").wait().unwrap();
    let error = sender.send("6789012").wait().unwrap_err();
    assert!(matches!(error, StreamError::TooLong { most_bytes: 10, .. }), "{error}");
    assert_eq!(sender.missing_bytes(), Some(5));
}

#[test]
fn dropping_an_answer_halfway_leaves_nothing_behind() {
    let server = echo_server_of(8 << 20);
    let client = client();
    // The first call tells a raw peer what the server is.
    assert_eq!(client.call(server, "hello").wait().unwrap(), "hello");
    let mut answer = client.call(server, vec![1; 8 << 20]).reader().wait().unwrap();
    assert!(answer.chunk().wait().unwrap().is_some());
    drop(answer);
    // Whoever drives executes it.
    let start = Instant::now();
    while client.stats().outstanding_calls > 0 || client.stats().engine.receive_memory_bytes > 0 {
        assert!(start.elapsed() < SOON, "{:?}", client.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.call(server, "next").wait().unwrap(), "next");
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
    let server = streaming_server();
    let address = server.local_addr();
    let client = client();
    acquaint(&client, &server);
    let expected = pattern(2 << 20);
    let echo = tokio::spawn(async move {
        // Whole bodies are held here: what is streamed is reading and answering.
        let (mut body, responder) = server.accept_streaming().await.unwrap().split();
        let mut pieces = Vec::new();
        while let Some(piece) = body.chunk().await.unwrap() {
            pieces.push(piece);
        }
        let mut sender = responder.reply_streaming(body.body_bytes().unwrap()).unwrap();
        for piece in pieces {
            sender.send(piece).await.unwrap();
        }
        sender.finish().unwrap();
        server.close().await;
    });
    let (mut sender, response) =
        client.call_streaming(address).length(2 << 20).open().await.unwrap();
    for piece in expected.chunks(100_000) {
        sender.send(piece.to_vec()).await.unwrap();
    }
    sender.finish().unwrap();
    let mut answer = response.reader().await.unwrap();
    let mut at = 0;
    while let Some(piece) = answer.chunk().await.unwrap() {
        assert!(piece == expected[at..at + piece.len()]);
        at += piece.len();
    }
    assert_eq!(at, expected.len());
    echo.await.unwrap();
}
