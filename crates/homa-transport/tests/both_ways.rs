//! Bodies of unknown length, and calls that go both ways at once.

mod common;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use common::{SOON, pattern};
use homa_transport::{BodyReader, BodyWriter, Call, CallErrorKind, Endpoint, StreamError};

fn bind() -> Endpoint {
    common::bind_with(|builder| builder.streaming_requests(true).max_message_bytes(1 << 30))
}

fn client() -> Endpoint {
    common::client_with(|builder| builder.max_message_bytes(1 << 30))
}

fn open(client: &Endpoint, server: SocketAddr) -> (BodyWriter, Call) {
    client.call_streaming(server).metadata("trace", "17").open().wait().unwrap()
}

/// Answers each request while it reads, with every byte changed.
fn transform(server: Endpoint) -> SocketAddr {
    let address = server.local_addr();
    thread::spawn(move || {
        while let Ok(request) = server.accept_streaming().wait() {
            assert_eq!(request.metadata().get("trace").unwrap(), "17");
            assert_eq!(request.body_bytes(), None);
            thread::spawn(move || {
                let (mut reader, responder) = request.split();
                let mut writer = responder.reply_streaming(None).unwrap();
                while let Some(piece) = reader.chunk().wait().unwrap() {
                    let changed: Vec<u8> = piece.iter().map(|byte| !byte).collect();
                    writer.send(changed).wait().unwrap();
                }
                writer.finish().unwrap();
            });
        }
    });
    address
}

#[test]
fn a_server_answers_while_it_reads() {
    let (client, server) = (client(), transform(bind()));
    let (mut writer, call) = open(&client, server);
    let mut reader: Option<BodyReader> = None;
    let mut call = Some(call);
    for word in ["one", "two", "three"] {
        writer.send(word).wait().unwrap();
        let reader = reader.get_or_insert_with(|| call.take().unwrap().reader().wait().unwrap());
        let mut answer = Vec::new();
        while answer.len() < word.len() {
            answer.extend(reader.chunk().wait().unwrap().unwrap());
        }
        assert!(answer.iter().map(|byte| !byte).eq(word.bytes()), "{word}");
    }
    writer.finish().unwrap();
    assert_eq!(reader.unwrap().chunk().wait().unwrap(), None);
}

#[test]
fn bodies_of_all_lengths_go_without_being_announced() {
    let (client, server) = (client(), transform(bind()));
    for length in [0, 1, 1_000, 1_400, 65_536, 200_000, 5_000_000] {
        let (mut writer, call) = open(&client, server);
        let sent = pattern(length);
        let expected: Vec<u8> = sent.iter().map(|byte| !byte).collect();
        let sending = thread::spawn(move || {
            for piece in sent.chunks(60_000) {
                writer.send(piece.to_vec()).wait().unwrap();
            }
            writer.finish().unwrap();
        });
        let answer = call.wait().unwrap();
        assert!(answer == expected, "{length} bytes");
        sending.join().unwrap();
    }
    assert_eq!(client.stats().outstanding_calls, 0);
}

#[test]
fn a_body_of_unknown_length_comes_to_those_who_accept_whole_requests_too() {
    let server = common::bind();
    let (address, client) = (server.local_addr(), common::client());
    common::serve_echo(server);
    for length in [0, 1, 70_000] {
        let (mut writer, call) = open(&client, address);
        writer.send(pattern(length)).wait().unwrap();
        writer.finish().unwrap();
        assert!(call.wait().unwrap() == pattern(length));
    }
}

#[test]
fn a_reader_that_stops_stops_its_writer_and_nothing_else() {
    let server = bind();
    let client = client();
    let (mut writer, call) = open(&client, server.local_addr());
    let (mut other, other_call) = open(&client, server.local_addr());
    let (mut reader, responder) = server.accept_streaming().wait().unwrap().split();
    let (mut other_reader, other_responder) = server.accept_streaming().wait().unwrap().split();
    writer.send("first").wait().unwrap();
    other.send("first").wait().unwrap();
    assert_eq!(reader.chunk().wait().unwrap().unwrap(), "first");
    drop(reader);
    let error = loop {
        if let Err(error) = writer.send("more").wait() {
            break error;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(error, StreamError::Stopped { .. }), "{error}");
    responder.reply("enough").wait().unwrap();
    assert_eq!(call.wait().unwrap(), "enough");
    other.finish().unwrap();
    assert_eq!(other_reader.chunk().wait().unwrap().unwrap(), "first");
    assert_eq!(other_reader.chunk().wait().unwrap(), None);
    other_responder.reply("all of it").wait().unwrap();
    assert_eq!(other_call.wait().unwrap(), "all of it");
}

#[test]
fn halves_are_dropped_in_every_order_and_everything_goes_away() {
    let server = bind();
    let client = client();
    for order in 0..16 {
        let (writer, call) = open(&client, server.local_addr());
        let (reader, responder) = server.accept_streaming().wait().unwrap().split();
        let mut halves: Vec<Box<dyn std::any::Any>> =
            vec![Box::new(writer), Box::new(call), Box::new(reader), Box::new(responder)];
        for remaining in [4, 3, 2, 1] {
            halves.remove((order / remaining + order) % remaining);
        }
    }
    server.wait_idle().wait_timeout(SOON).expect("nothing is left");
    let begin = std::time::Instant::now();
    while client.stats().outstanding_calls + server.stats().engine.live_rpcs > 0 {
        assert!(begin.elapsed() < SOON, "{:?}", server.stats());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_call_that_is_dropped_cancels_its_request_and_its_writer() {
    let server = bind();
    let client = client();
    let (mut writer, call) = open(&client, server.local_addr());
    let (mut reader, mut responder) = server.accept_streaming().wait().unwrap().split();
    writer.send("first").wait().unwrap();
    drop(call);
    responder.cancelled().wait();
    while let Ok(Some(_)) = reader.chunk().wait() {}
    let begin = std::time::Instant::now();
    while writer.send("more").wait().is_ok() {
        assert!(begin.elapsed() < SOON);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_writer_that_is_dropped_unfinished_fails_the_call() {
    let server = bind();
    let client = client();
    let (mut writer, call) = open(&client, server.local_addr());
    let (mut reader, _responder) = server.accept_streaming().wait().unwrap().split();
    writer.send("first").wait().unwrap();
    drop(writer);
    let error = call.wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::BodyIncomplete);
    let error = loop {
        match reader.chunk().wait() {
            Ok(piece) => assert!(piece.is_some(), "it is not the end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StreamError::Cancelled { .. }), "{error}");
}

#[test]
fn a_rejection_ends_both_directions() {
    let server = bind();
    let client = client();
    let (mut writer, call) = open(&client, server.local_addr());
    let (reader, responder) = server.accept_streaming().wait().unwrap().split();
    responder.reject(3, "no");
    drop(reader);
    assert_eq!(call.wait().unwrap_err().rejection().unwrap().code, 3);
    let begin = std::time::Instant::now();
    while writer.send("more").wait().is_ok() {
        assert!(begin.elapsed() < SOON);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_slow_writer_is_waited_for() {
    let (client, server) = (client(), transform(bind()));
    let (mut writer, call) = open(&client, server);
    for _ in 0..4 {
        writer.send("x").wait().unwrap();
        thread::sleep(Duration::from_millis(300));
    }
    writer.finish().unwrap();
    assert_eq!(call.wait().unwrap().len(), 4);
}

#[test]
fn more_than_a_message_may_have_is_refused_and_the_call_goes_on() {
    let server = common::bind_with(|builder| builder.streaming_requests(true));
    let address = transform(server);
    let (mut writer, call) = open(&common::client(), address);
    let error = writer.send(vec![0; 1_000_001]).wait().unwrap_err();
    assert!(matches!(error, StreamError::TooLong { .. }), "{error}");
    writer.send(vec![0; 1_000_000]).wait().unwrap();
    writer.finish().unwrap();
    assert_eq!(call.wait().unwrap().len(), 1_000_000);
}

#[test]
fn bodies_are_what_the_standard_library_reads_and_writes() {
    use std::io::{Read, Write};
    let (client, server) = (client(), transform(bind()));
    let (mut writer, call) = open(&client, server);
    let sent = pattern(300_000);
    let expected: Vec<u8> = sent.iter().map(|byte| !byte).collect();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.finish().unwrap();
    });
    let mut reader = call.reader().wait().unwrap();
    let mut first = [0; 10];
    reader.read_exact(&mut first).unwrap();
    let rest = reader.collect().wait().unwrap();
    assert!(first == expected[..10] && rest == expected[10..]);
    writing.join().unwrap();
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn bodies_are_what_tokio_reads_and_writes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (client, server) = (client(), transform(bind()));
    let opened = client.call_streaming(server).metadata("trace", "17").open().await;
    let (mut writer, call) = opened.unwrap();
    let writing = tokio::spawn(async move {
        writer.write_all(&pattern(300_000)).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut answer = Vec::new();
    call.reader().await.unwrap().read_to_end(&mut answer).await.unwrap();
    assert!(answer.iter().map(|byte| !byte).eq(pattern(300_000)));
    writing.await.unwrap();
}
