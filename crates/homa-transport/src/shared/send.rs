//! Messages on their way to the engine, with the frames ahead of them.

use std::time::Duration;

use bytes::Bytes;
use homa_core::{Instant, Path, RequestOptions, ResponseOptions, RpcKey, SendError};
use homa_io::{Body, ShardView};

use super::context::length_u32;
use super::frame::Frame;
use super::rpc::{Content, EarlyResponse};

/// Begins a call.
pub(crate) fn request(
    path: Path,
    content: Content,
    mut options: RequestOptions,
    shard: &mut ShardView<'_>,
) -> Result<RpcKey, SendError> {
    let timeout = options.deadline.map(|at: Instant| at.since(shard.now()));
    match content {
        Content::Whole(body) => {
            let (frame, body) = frame_of(body, timeout);
            let Some(frame) = frame else { return shard.send_request(path, body, 0, options) };
            options.framed = true;
            match shard.send_request(path, frame.ahead_of(body.clone()), 0, options) {
                // The server need not know the deadline.
                Err(SendError::NotNative | SendError::TooLong { .. }) if !frame.is_needed() => {
                    options.framed = false;
                    shard.send_request(path, body, 0, options)
                }
                sent => sent,
            }
        }
        Content::Announced(body_bytes, mut frame) => {
            frame.timeout = timeout;
            match announce_request(path, body_bytes, &frame, options, shard) {
                // The server need not know the deadline.
                Err(SendError::NotNative | SendError::TooLong { .. }) if !frame.is_needed() => {
                    frame.timeout = None;
                    announce_request(path, body_bytes, &frame, options, shard)
                }
                sent => sent,
            }
        }
        Content::Rejection(_) => Err(SendError::NotInService),
    }
}

/// Begins a call whose body is supplied later.
fn announce_request(
    path: Path,
    body_bytes: u32,
    frame: &Frame,
    mut options: RequestOptions,
    shard: &mut ShardView<'_>,
) -> Result<RpcKey, SendError> {
    let (ahead, length_bytes) = ahead_of_announced(body_bytes, frame);
    options.framed = !ahead.is_empty();
    let key = shard.send_request_streaming(path, length_bytes, 0, options)?;
    supply(key, ahead, shard);
    Ok(key)
}

/// Answers a request.
pub(crate) fn response(
    key: RpcKey,
    response: EarlyResponse,
    shard: &mut ShardView<'_>,
) -> Result<(), SendError> {
    let framed = ResponseOptions { framed: true, ..ResponseOptions::default() };
    match response.content {
        Content::Whole(body) => match frame_of(body, None) {
            (None, body) => shard.send_response(key, body, ResponseOptions::default()),
            (Some(frame), body) => shard.send_response(key, frame.ahead_of(body), framed),
        },
        Content::Rejection(rejection) => {
            let frame = Frame { rejection: Some(rejection.code), ..Frame::default() };
            shard.send_response(key, frame.ahead_of(rejection.text.into()), framed)
        }
        Content::Announced(body_bytes, frame) => {
            let (ahead, length_bytes) = ahead_of_announced(body_bytes, &frame);
            let options =
                ResponseOptions { framed: !ahead.is_empty(), ..ResponseOptions::default() };
            shard.send_response_streaming(key, length_bytes, options)?;
            supply(key, ahead, shard);
            for piece in response.pieces {
                supply(key, piece, shard);
            }
            Ok(())
        }
    }
}

/// The frame that a whole message needs, and its body.
fn frame_of(mut body: Body, timeout: Option<Duration>) -> (Option<Frame>, Body) {
    let frame = Frame { timeout, metadata: body.take_metadata(), ..Frame::default() };
    // A message has at least one byte.
    let is_needed = body.is_empty() || frame != Frame::default();
    (is_needed.then_some(frame), body)
}

/// The bytes ahead of an announced body, and the length of the whole message.
fn ahead_of_announced(body_bytes: u32, frame: &Frame) -> (Bytes, u32) {
    // A message has at least one byte.
    let is_needed = body_bytes == 0 || *frame != Frame::default();
    let ahead = if is_needed { frame.encode() } else { Bytes::new() };
    let length_bytes = body_bytes.saturating_add(length_u32(ahead.len()));
    (ahead, length_bytes)
}

fn supply(key: RpcKey, bytes: Bytes, shard: &mut ShardView<'_>) {
    if !bytes.is_empty() {
        // A stale RPC needs no more bytes.
        let _ = shard.supply(key, bytes);
    }
}
