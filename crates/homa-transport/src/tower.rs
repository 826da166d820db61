//! Clients and servers as services of the crate [tower](https://docs.rs/tower), whose layers add
//! time limits, retries, load shedding and more.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use homa_transport::tower::{Client, Incoming, serve};
//! use homa_transport::{Endpoint, Message};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Endpoint::bind("127.0.0.1:0")?;
//! let address = server.local_addr();
//! let echo = service_fn(|request: Incoming| async { Ok::<_, Infallible>(request.body) });
//! let service = ServiceBuilder::new().concurrency_limit(100).service(echo);
//! tokio::spawn(serve(server, service, tokio::spawn));
//!
//! let mut client = Client::new(&Endpoint::client()?, address);
//! assert_eq!(client.ready().await?.call(Message::from("hello")).await?, "hello");
//! # Ok(()) }
//! ```
//!
//! Errors of a service become a [`Failure`], which says what its client is told:
//!
//! ```
//! use std::time::Duration;
//!
//! use homa_transport::tower::{Failure, Incoming, serve};
//! use homa_transport::{CallErrorKind, Endpoint, Message, Rejection};
//! use tower::{ServiceBuilder, service_fn};
//!
//! enum StoreError {
//!     NoSuchKey,
//!     Busy,
//! }
//!
//! impl From<StoreError> for Failure {
//!     fn from(error: StoreError) -> Self {
//!         match error {
//!             StoreError::NoSuchKey => Rejection::new(404, "no such key").into(),
//!             // Nothing was executed: the client may call again.
//!             StoreError::Busy => Self::Refused,
//!         }
//!     }
//! }
//!
//! async fn get(request: Incoming) -> Result<Message, StoreError> {
//!     Err(if request.body == "17" { StoreError::Busy } else { StoreError::NoSuchKey })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Endpoint::bind("127.0.0.1:0")?;
//! let address = server.local_addr();
//! // A layer that boxes errors, as that of time limits does, takes failures along.
//! let service = ServiceBuilder::new()
//!     .timeout(Duration::from_secs(1))
//!     .map_err(Failure::from)
//!     .service(service_fn(get));
//! tokio::spawn(serve(server, service, tokio::spawn));
//!
//! let client = Endpoint::client()?;
//! let busy = client.call(address, "17").await.unwrap_err();
//! assert_eq!(*busy.kind(), CallErrorKind::Overloaded);
//! let missing = client.call(address, "18").await.unwrap_err();
//! assert_eq!(missing.rejection().unwrap().code, 404);
//! # Ok(()) }
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::tower::load_shed::error::Overloaded;
use tower_service::Service;

use crate::shared::{Content, Handle, PendingCall, Permit};
use crate::{
    AcceptError, Body, Call, CallError, Endpoint, Message, Rejection, Request, Responder, Target,
    pending,
};

/// Calls to one server as a service, whose requests and responses are messages.
///
/// It is ready when there is room for a call under
/// [`outstanding_calls_max`](crate::EndpointBuilder::outstanding_calls_max), which it keeps until
/// it is called or dropped. A server that has a name is resolved by each call, which waits for room
/// itself. Clones are cheap, and ready on their own.
#[derive(Debug)]
pub struct Client {
    handle: Handle,
    server: Target,
    timeout: Option<Duration>,
    permit: Option<Box<Permit>>,
}

impl Client {
    /// Calls `server` from `endpoint`.
    pub fn new(endpoint: &Endpoint, server: impl Into<Target>) -> Self {
        let handle = endpoint.handle().clone();
        Self { handle, server: server.into(), timeout: None, permit: None }
    }

    /// Gives every call so much time ([`Call::timeout`]). In contrast to a layer around the client
    /// this tells the server.
    #[must_use]
    pub fn timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.timeout = after.into();
        self
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        let (handle, server) = (self.handle.clone(), self.server.clone());
        Self { handle, server, timeout: self.timeout, permit: None }
    }
}

impl Service<Message> for Client {
    type Response = Message;
    type Error = CallError;
    type Future = Call;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let Some(server) = self.server.address() else {
            return Poll::Ready(self.handle.check_open());
        };
        let permit =
            self.permit.get_or_insert_with(|| Box::new(Permit::new(self.handle.clone(), server)));
        pending::poll(&mut **permit, context, Permit::poll)
    }

    fn call(&mut self, body: Message) -> Call {
        let content = Content::Whole(body);
        let mut pending = PendingCall::new(self.handle.clone(), self.server.clone(), content);
        let options = pending.options();
        (options.timeout, options.permit) = (self.timeout, self.permit.take());
        Call::new(pending).start()
    }
}

/// A request as a service gets it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The request's bytes, with what travels beside them.
    pub body: Message,
    /// The client's address.
    pub peer: SocketAddr,
    /// When the client gives the call up, if it said so ([`Request::deadline`]).
    pub deadline: Option<Instant>,
}

/// What answers one request: to be run to its end.
pub type Handling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the client of a request is told when the service fails.
///
/// Error types of services say it by `From`: `impl From<MyError> for Failure`, or a layer of
/// `map_err`. It is an error itself, so that it goes through layers that box errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The request is not served, and why ([`Responder::reject`]). It counts as executed.
    Rejected(Rejection),
    /// Nothing of the request was executed, for want of capacity ([`Responder::refuse`]): the call
    /// is [retryable](CallError::is_retryable).
    Refused,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Refused => f.write_str("refused for want of capacity"),
        }
    }
}

impl Error for Failure {}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Errors of tower's layers. Load that was shed is [`Failure::Refused`]; one that is neither a
/// failure nor a rejection becomes a rejection with the code 0.
///
/// A service that sheds the load of calls to others while it works on a request has executed some
/// of it: it has to make another error of `Overloaded` before it returns it.
impl From<Box<dyn Error + Send + Sync>> for Failure {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        if error.is::<Overloaded>() {
            return Self::Refused;
        }
        let rejection = match error.downcast::<Self>() {
            Ok(failure) => return *failure,
            Err(error) => error.downcast::<Rejection>(),
        };
        Self::Rejected(match rejection {
            Ok(rejection) => *rejection,
            Err(error) => Rejection::new(0, error.to_string()),
        })
    }
}

/// Why requests are served no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServeError {
    /// No request can be accepted.
    Accept(AcceptError),
    /// The service failed to become ready, and serves nothing from then on.
    Service(Failure),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(error) => error.fmt(f),
            Self::Service(Failure::Rejected(Rejection { code, text })) => {
                write!(f, "the service ended with code {code}: {text}")
            }
            Self::Service(Failure::Refused) => f.write_str("the service ended: it has no capacity"),
        }
    }
}

impl Error for ServeError {}

/// Serves the requests of `endpoint` with `service`, each in a task of its own, which `spawn`
/// starts: `tokio::spawn`, for example. It ends when the endpoint accepts no more requests
/// ([`Endpoint::stop_accepting`], [`Endpoint::drain`]), all are answered and all clients have their
/// responses.
///
/// While the service is not ready one request waits for it and the others in the endpoint, which
/// refuses those that wait for too long ([`crate::EndpointBuilder::queue_time_max`]). A service
/// that fails to become ready has executed nothing: the request that waits for it is refused.
/// Clients are told of other errors as [`Failure`] says. What is done for a client that has given
/// up is dropped.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<S, T>(
    endpoint: Endpoint,
    mut service: S,
    mut spawn: impl FnMut(Handling) -> T,
) -> Result<(), ServeError>
where
    S: Service<Incoming, Response: Into<Body> + 'static, Error: Into<Failure> + 'static>,
    S::Future: Send + 'static,
{
    loop {
        let mut request = match endpoint.accept().await {
            Ok(request) => request,
            Err(AcceptError::Closed) => break,
            Err(error) => return Err(ServeError::Accept(error)),
        };
        match poll_fn(|context| poll_ready(&mut service, &mut request, context)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                request.refuse();
                return Err(ServeError::Service(error.into()));
            }
            None => continue,
        }
        let (peer, deadline) = (request.peer(), request.deadline());
        let (body, responder) = request.into_parts();
        let answer = service.call(Incoming { body, peer, deadline });
        spawn(Box::pin(handle(answer, responder)));
    }
    endpoint.wait_idle().await;
    Ok(())
}

/// Ready when the service is, or with `None` when the client of `request` has given up.
fn poll_ready<S: Service<Incoming>>(
    service: &mut S,
    request: &mut Request,
    context: &mut Context<'_>,
) -> Poll<Option<Result<(), S::Error>>> {
    match service.poll_ready(context) {
        Poll::Ready(ready) => Poll::Ready(Some(ready)),
        Poll::Pending => pin!(request.cancelled()).poll(context).map(|()| None),
    }
}

/// Sends what comes of `answer`, unless the client gives up before.
async fn handle<F, R, E>(answer: F, mut responder: Responder)
where
    F: Future<Output = Result<R, E>>,
    R: Into<Body>,
    E: Into<Failure>,
{
    let mut answer = pin!(answer);
    let answered = poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answered) => Poll::Ready(Some(answered)),
        Poll::Pending => {
            ready!(pin!(responder.cancelled()).poll(context));
            Poll::Ready(None)
        }
    });
    match answered.await.map(|answered| answered.map(Into::<Body>::into).map_err(Into::into)) {
        Some(Ok(body)) => {
            // A client that has gone needs nothing more.
            let _ = responder.reply(body).await;
        }
        Some(Err(Failure::Rejected(Rejection { code, text }))) => responder.reject(code, text),
        Some(Err(Failure::Refused)) => responder.refuse(),
        None => {}
    }
}
