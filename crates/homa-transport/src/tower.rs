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

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

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
        pending::poll(&self.handle, context, |waker| permit.poll(waker))
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

/// Why requests are served no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServeError {
    /// No request can be accepted.
    Accept(AcceptError),
    /// The service failed to become ready, and serves nothing from then on.
    Service(Rejection),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(error) => error.fmt(f),
            Self::Service(Rejection { code, text }) => {
                write!(f, "the service ended with code {code}: {text}")
            }
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
/// refuses those that wait for too long ([`crate::EndpointBuilder::queue_time_max`]). Errors of the
/// service are sent as rejections. What is done for a client that has given up is dropped.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<S, T>(
    endpoint: Endpoint,
    mut service: S,
    mut spawn: impl FnMut(Handling) -> T,
) -> Result<(), ServeError>
where
    S: Service<Incoming, Response: Into<Body> + 'static, Error: Into<Rejection> + 'static>,
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
                let rejection = error.into();
                request.reject(rejection.code, rejection.text.clone());
                return Err(ServeError::Service(rejection));
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
    E: Into<Rejection>,
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
        Some(Err(Rejection { code, text })) => responder.reject(code, text),
        None => {}
    }
}

impl From<Infallible> for Rejection {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Errors of tower's layers. One that is no rejection has the code 0.
impl From<Box<dyn Error + Send + Sync>> for Rejection {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        match error.downcast::<Self>() {
            Ok(rejection) => *rejection,
            Err(error) => Self::new(0, error.to_string()),
        }
    }
}
