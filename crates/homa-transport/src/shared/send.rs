//! Messages on their way to the engine, with the frames ahead of them.

use std::time::Duration;

use bytes::Bytes;
use homa_core::{Instant, Path, RequestOptions, ResponseOptions, RpcKey, SendError};
use homa_io::{Body, ShardView};

use super::frame::{Frame, Leg, length_u32};
use super::rpc::Content;

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
        Content::Download(pair) => {
            let frame = Frame { leg: Some((Leg::Download, pair)), timeout, ..Frame::default() };
            options.framed = true;
            shard.send_request(path, frame.encode().into(), 0, options)
        }
        Content::Rejection(_) => Err(SendError::NotInService),
    }
}

/// Begins a call whose body is supplied later.
fn announce_request(
    path: Path,
    body_bytes: Option<u32>,
    frame: &Frame,
    mut options: RequestOptions,
    shard: &mut ShardView<'_>,
) -> Result<RpcKey, SendError> {
    let ahead = ahead_of_announced(body_bytes, frame);
    (options.framed, options.open) = (!ahead.is_empty(), frame.open);
    let Some(body_bytes) = body_bytes else {
        return shard.send_request(path, ahead.into(), 0, options);
    };
    let length_bytes = body_bytes.saturating_add(length_u32(ahead.len()));
    let key = shard.send_request_streaming(path, length_bytes, 0, options)?;
    supply(key, ahead, shard);
    Ok(key)
}

/// Answers a request.
#[inline]
pub(crate) fn response(
    key: RpcKey,
    response: Content,
    shard: &mut ShardView<'_>,
) -> Result<(), SendError> {
    let framed = ResponseOptions { framed: true, ..ResponseOptions::default() };
    match response {
        Content::Whole(body) => match frame_of(body, None) {
            (None, body) => shard.send_response(key, body, ResponseOptions::default()),
            (Some(frame), body) => shard.send_response(key, frame.ahead_of(body), framed),
        },
        Content::Rejection(rejection) => {
            let frame = Frame { rejection: Some(rejection.code), ..Frame::default() };
            shard.send_response(key, frame.ahead_of(rejection.text.into()), framed)
        }
        Content::Announced(body_bytes, frame) => {
            let ahead = ahead_of_announced(body_bytes, &frame);
            let (framed, open) = (!ahead.is_empty(), frame.open);
            let options = ResponseOptions { framed, open, ..ResponseOptions::default() };
            if let Some(body_bytes) = body_bytes {
                let length_bytes = body_bytes.saturating_add(length_u32(ahead.len()));
                shard.send_response_streaming(key, length_bytes, options)?;
                supply(key, ahead, shard);
            } else {
                shard.send_response(key, ahead.into(), options)?;
            }
            Ok(())
        }
        Content::Download(_) => Err(SendError::NotInService),
    }
}

/// The frame that a whole message needs, and its body.
#[inline]
fn frame_of(mut body: Body, timeout: Option<Duration>) -> (Option<Frame>, Body) {
    // A message has at least one byte.
    let is_needed = body.is_empty() || body.has_metadata() || timeout.is_some();
    if !is_needed {
        return (None, body);
    }
    let metadata = body.take_metadata();
    (Some(Frame { timeout, metadata, ..Frame::default() }), body)
}

/// The bytes ahead of an announced body.
fn ahead_of_announced(body_bytes: Option<u32>, frame: &Frame) -> Bytes {
    // A message has at least one byte.
    let is_needed = body_bytes == Some(0) || *frame != Frame::default();
    if is_needed { frame.encode() } else { Bytes::new() }
}

pub(crate) fn supply(key: RpcKey, bytes: Bytes, shard: &mut ShardView<'_>) {
    if !bytes.is_empty() {
        // A stale RPC needs no more bytes.
        let _ = shard.supply(key, bytes);
    }
}
