//! What travels beside the body of a message: metadata, deadlines, rejections.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{SOON, pattern};
use homa_transport::{CallErrorKind, Endpoint, METADATA_BYTES_MAX, Message, Metadata, ReplyError};

/// Answers each request with its own body and metadata.
fn mirror() -> std::net::SocketAddr {
    let server = common::bind();
    let address = server.local_addr();
    common::serve_echo(server);
    address
}

fn serve_one(server: Endpoint, serve: impl FnOnce(homa_transport::Request) + Send + 'static) {
    thread::spawn(move || serve(server.accept().wait().unwrap()));
}

#[test]
fn metadata_travels_beside_bodies_of_all_lengths_both_ways() {
    let (server, client) = (mirror(), common::client());
    for length in [0, 1, 1_300, 1_400, 1_500, 100_000, 900_000] {
        let call = client.call(server, pattern(length)).metadata("trace", "17");
        let answer = call.metadata("", "").metadata("x", vec![7; 3_000]);
        let error = answer.wait().unwrap_err();
        assert_eq!(error.kind(), &CallErrorKind::InvalidMetadata, "a name is empty");
        let call = client.call(server, pattern(length)).metadata("trace", "17");
        let answer = call.metadata("x", vec![7; 3_000]).wait().unwrap();
        assert!(answer == pattern(length), "{length} bytes");
        assert_eq!(answer.metadata().get("trace").unwrap(), "17");
        assert_eq!(answer.metadata().get("x").unwrap().len(), 3_000);
        assert_eq!(answer.metadata().len(), 2);
    }
}

#[test]
fn empty_messages_go_both_ways() {
    let (server, client) = (mirror(), common::client());
    let answer = client.call(server, "").wait().unwrap();
    assert!(answer.is_empty() && answer.metadata().is_empty());
}

#[test]
fn metadata_that_is_too_long_is_refused_before_anything_is_sent() {
    let (server, client) = (mirror(), common::client());
    let longest = METADATA_BYTES_MAX - 4;
    let answer = client.call(server, "x").metadata("n", vec![0; longest]).wait().unwrap();
    assert_eq!(answer.metadata().get("n").unwrap().len(), longest);
    let error = client.call(server, "x").metadata("n", vec![0; longest + 1]).wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::InvalidMetadata);
    assert!(!error.may_have_executed());
    let server = common::bind();
    let address = server.local_addr();
    serve_one(server, move |request| {
        let response = Message::from("x").with_metadata(Metadata::new().with("n", vec![0; 5_000]));
        let error = request.reply(response).wait().unwrap_err();
        assert!(matches!(error, ReplyError::InvalidMetadata { .. }), "{error}");
    });
    let error = client.call(address, "?").wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::Dropped);
}

#[test]
fn a_rejection_tells_its_code_and_why() {
    for code in [0, 7, u32::MAX] {
        let server = common::bind();
        let address = server.local_addr();
        serve_one(server, move |request| request.reject(code, "not here"));
        let error = common::client().call(address, "?").wait().unwrap_err();
        let rejection = error.rejection().unwrap();
        assert_eq!((rejection.code, rejection.text.as_str()), (code, "not here"));
        assert!(error.to_string().contains("not here"), "{error}");
        assert!(error.may_have_executed(), "its handler ran");
    }
}

#[test]
fn a_refusal_by_a_handler_is_a_reason_to_call_again() {
    let server = common::bind();
    let address = server.local_addr();
    serve_one(server, homa_transport::Request::refuse);
    let error = common::client().call(address, "?").wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::Overloaded);
    assert!(error.is_retryable() && !error.may_have_executed());
}

#[test]
fn a_rejection_of_a_call_that_reads_its_response_as_a_stream_is_an_error_too() {
    let server = common::bind();
    let address = server.local_addr();
    serve_one(server, move |request| request.reject(9, pattern(500).escape_ascii().to_string()));
    let client = common::client();
    let error = client.call(address, "?").reader().wait().unwrap_err();
    assert_eq!(error.rejection().unwrap().code, 9);
}

#[test]
fn a_handler_knows_how_much_time_its_client_gives_it() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client();
    let begin = Instant::now();
    let call = client.call(address, "?").timeout(Duration::from_secs(60)).start();
    let request = server.accept().wait().unwrap();
    let deadline = request.deadline().unwrap();
    assert!(deadline <= Instant::now() + Duration::from_secs(60));
    assert!(deadline >= begin + Duration::from_secs(45), "all but what the network took");
    request.reply("").wait().unwrap();
    assert!(call.wait().unwrap().is_empty());
    let call = client.call(address, "?").start();
    assert_eq!(server.accept().wait().unwrap().deadline(), None);
    drop(call);
}

#[test]
fn a_body_of_the_longest_length_goes_with_a_deadline() {
    let (server, client) = (mirror(), common::client());
    let body = pattern(1_000_000);
    let answer = client.call(server, body.clone()).timeout(SOON).wait().unwrap();
    assert!(answer == body);
}

#[test]
fn a_request_that_waited_for_too_long_is_refused_and_never_handled() {
    let server = common::bind();
    let address = server.local_addr();
    let client = common::client();
    let late = client.call(address, "late").timeout(Duration::from_millis(400)).start();
    let patient = client.call(address, "patient").start();
    thread::sleep(Duration::from_millis(250));
    let request = server.accept().wait().unwrap();
    assert_eq!(request.body(), "patient");
    let error = late.wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::Overloaded);
    assert!(error.is_retryable());
    request.reply("done").wait().unwrap();
    assert_eq!(patient.wait().unwrap(), "done");
}

#[test]
fn the_longest_time_in_the_queue_can_be_set_and_ends_while_the_only_worker_is_busy() {
    let server = common::bind_with(|builder| builder.queue_time_max(Duration::from_secs(1)));
    let client = common::client();
    let long = client.call(server.local_addr(), "long").start();
    let request = server.accept().wait().unwrap();
    // Nobody accepts, and a thread of the endpoint drives.
    let mut late = client.call(server.local_addr(), "late").start();
    let ended = late.wait_timeout(SOON).expect("it is refused");
    assert_eq!(ended.unwrap_err().kind(), &CallErrorKind::Overloaded);
    assert_eq!(server.stats().requests_overdue, 1);
    assert_eq!(server.stats().requests_waiting, 0);
    request.reply("done").wait().unwrap();
    assert_eq!(long.wait().unwrap(), "done");
}
