//! A call under way.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::shared::PendingCall;
use crate::{CallError, Message, ResponseStream};

/// A call under way: the future of its response. Dropping it before it is ready aborts the RPC and
/// tells the server. Poll it no more once it was ready.
#[derive(Debug)]
#[must_use = "dropping a call aborts it"]
pub struct Call {
    pending: PendingCall,
}

impl Call {
    pub(crate) fn new(pending: PendingCall) -> Self {
        Self { pending }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.pending.server()
    }
}

impl Future for Call {
    type Output = Result<Message, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.pending.poll_message(context.waker())
    }
}

/// The response of a call whose request is still being supplied. Dropping it aborts the RPC.
#[derive(Debug)]
#[must_use = "dropping it aborts the call"]
pub struct PendingResponse {
    pending: PendingCall,
}

impl PendingResponse {
    pub(crate) fn new(pending: PendingCall) -> Self {
        Self { pending }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.pending.server()
    }

    /// Waits for the whole response. Dropping the future aborts the RPC.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn message(mut self) -> Result<Message, CallError> {
        poll_fn(|context| self.pending.poll_message(context.waker())).await
    }

    /// Waits for the first bytes of the response. Dropping the future aborts the RPC.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream(mut self) -> Result<ResponseStream, CallError> {
        let incoming = poll_fn(|context| self.pending.poll_stream(context.waker())).await?;
        Ok(ResponseStream::new(incoming))
    }
}
