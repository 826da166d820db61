//! The server, as generated code would have it for a service of one unary method.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::Grpc,
    transport::{Server, server::TcpIncoming},
};
use tower_service::Service;

use super::{CHANNEL_BYTES_MAX, METHOD, STREAMS_MAX, codec::BytesCodec, stream_window};
use crate::messages::Messages;

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Serves until the runtime ends.
pub(super) async fn serve(listener: tokio::net::TcpListener, messages: Messages) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(stream_window(&messages))
        .initial_connection_window_size(CHANNEL_BYTES_MAX)
        .serve_with_incoming(Peer { messages }, incoming)
        .await;
    if let Err(error) = served {
        // Clients notice by themselves; this says why.
        eprintln!("homa-bench-peers: the gRPC server ended: {error}");
    }
}

/// All methods of the server.
#[derive(Debug, Clone)]
struct Peer {
    messages: Messages,
}

impl Service<http::Request<Body>> for Peer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != METHOD {
            return Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) });
        }
        let messages = self.messages.clone();
        Box::pin(async move {
            let mut method = Grpc::new(BytesCodec)
                .max_decoding_message_size(messages.bytes_max())
                .max_encoding_message_size(messages.bytes_max());
            Ok(method.unary(Call { messages }, request).await)
        })
    }
}

/// The method.
struct Call {
    messages: Messages,
}

impl Service<Request<Bytes>> for Call {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = Answer<Response<Bytes>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let messages = self.messages.clone();
        Box::pin(async move { Ok(Response::new(messages.answer(request.into_inner()).await)) })
    }
}
