//! Clients and servers as services, with layers of the crate tower around them.

mod common;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{SOON, bind, bind_with, client, client_with};
use homa_transport::tower::{Client, Failure, Incoming, ServeError, serve};
use homa_transport::{CallError, CallErrorKind, Endpoint, Message, Rejection};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::retry::{Policy, Retry};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

/// A service that answers with the request when it gets a permit, and how many it works on.
#[derive(Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), inside: Arc::default() }
    }

    async fn pass(self, request: Incoming) -> Result<Message, Infallible> {
        struct Inside(Arc<AtomicUsize>);
        impl Drop for Inside {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(Arc::clone(&self.inside));
        self.permits.acquire().await.unwrap().forget();
        Ok(request.body)
    }

    async fn until_inside(&self, requests: usize) {
        let look = async {
            while self.inside.load(Ordering::SeqCst) != requests {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, look).await.unwrap();
    }
}

/// Serves requests that pass the gate.
fn serve_gated(server: &Endpoint, gate: &Gate) -> tokio::task::JoinHandle<Result<(), ServeError>> {
    let gate = gate.clone();
    let service = service_fn(move |request| gate.clone().pass(request));
    tokio::spawn(serve(server.clone(), service, tokio::spawn))
}

async fn ready_now(client: &mut Client) -> bool {
    timeout(Duration::from_millis(20), client.ready()).await.is_ok_and(|ready| ready.is_ok())
}

#[tokio::test]
async fn a_call_is_answered_by_the_service() {
    let server = bind();
    let service = service_fn(async |request: Incoming| {
        assert!(request.deadline.is_some());
        Ok::<_, Infallible>(format!("{} from {}", request.body.len(), request.peer.port()))
    });
    let mut client = Client::new(&client(), server.local_addr()).timeout(SOON);
    tokio::spawn(serve(server, service, tokio::spawn));
    let answer = client.ready().await.unwrap().call("hello".into()).await.unwrap();
    assert!(answer.into_string().unwrap().starts_with("5 from "));
}

#[tokio::test]
async fn a_client_is_ready_when_there_is_room_for_a_call() {
    let (server, gate) = (bind(), Gate::new());
    serve_gated(&server, &gate);
    let endpoint = client_with(|builder| builder.outstanding_calls_max(1));
    let mut client = Client::new(&endpoint, server.local_addr());
    let call = client.ready().await.unwrap().call("one".into());
    assert!(!ready_now(&mut client).await);
    gate.permits.add_permits(1);
    assert_eq!(call.await.unwrap(), "one");
    // The room is kept for this client, and given back when it goes away.
    timeout(SOON, client.ready()).await.unwrap().unwrap();
    let mut other = client.clone();
    assert!(!ready_now(&mut other).await);
    let waiting = tokio::spawn(async move { other.ready().await.map(|_| ()) });
    tokio::task::yield_now().await;
    drop(client);
    timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(endpoint.stats().outstanding_calls, 0);
}

#[tokio::test]
async fn a_call_that_was_ready_takes_its_room_before_those_who_wait() {
    let (server, gate) = (bind(), Gate::new());
    serve_gated(&server, &gate);
    let endpoint = client_with(|builder| builder.outstanding_calls_max(1));
    let mut client = Client::new(&endpoint, server.local_addr());
    client.ready().await.unwrap();
    let later = endpoint.call(server.local_addr(), "later").start();
    let call = client.call("first".into());
    gate.until_inside(1).await;
    gate.permits.add_permits(2);
    assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "first");
    assert_eq!(timeout(SOON, later).await.unwrap().unwrap(), "later");
}

#[tokio::test]
async fn a_call_that_was_ready_waits_for_room_for_its_bytes() {
    let (server, gate) = (bind(), Gate::new());
    serve_gated(&server, &gate);
    let endpoint = client_with(|builder| builder.outstanding_bytes_max(1_000));
    let mut client = Client::new(&endpoint, server.local_addr());
    client.ready().await.unwrap();
    let first = endpoint.call(server.local_addr(), [1; 800]).start();
    let second = client.call([2; 800].into());
    gate.permits.add_permits(2);
    assert_eq!(timeout(SOON, first).await.unwrap().unwrap(), [1; 800]);
    assert_eq!(timeout(SOON, second).await.unwrap().unwrap(), [2; 800]);
    assert_eq!(endpoint.stats().outstanding_calls, 0);
}

#[tokio::test]
async fn a_client_of_a_closed_endpoint_says_so() {
    let endpoint = client();
    let mut client = Client::new(&endpoint, "127.0.0.1:1");
    endpoint.close().await;
    assert_eq!(*client.ready().await.unwrap_err().kind(), CallErrorKind::Closed);
}

#[tokio::test]
async fn load_is_shed_where_there_is_no_room_for_a_call() {
    let (server, gate) = (bind(), Gate::new());
    serve_gated(&server, &gate);
    let endpoint = client_with(|builder| builder.outstanding_calls_max(1));
    let calls = Client::new(&endpoint, server.local_addr());
    let mut client = ServiceBuilder::new().load_shed().service(calls);
    let call = client.ready().await.unwrap().call("one".into());
    let shed = client.ready().await.unwrap().call("two".into()).await.unwrap_err();
    assert!(shed.is::<tower::load_shed::error::Overloaded>(), "{shed}");
    gate.permits.add_permits(1);
    assert_eq!(call.await.unwrap(), "one");
}

#[tokio::test]
async fn a_time_limit_around_a_client_aborts_the_call_and_tells_the_service() {
    let (server, gate) = (bind(), Gate::new());
    serve_gated(&server, &gate);
    let endpoint = client();
    let calls = Client::new(&endpoint, server.local_addr());
    let mut client =
        ServiceBuilder::new().timeout(Duration::from_millis(200)).service(calls.clone());
    let call = client.ready().await.unwrap().call("one".into());
    let call = tokio::spawn(call);
    gate.until_inside(1).await;
    let late = call.await.unwrap().unwrap_err();
    assert!(late.is::<tower::timeout::error::Elapsed>(), "{late}");
    gate.until_inside(0).await;
}

#[tokio::test]
async fn a_service_that_is_not_ready_holds_requests_back() {
    let (server, gate) = (bind(), Gate::new());
    let entered = gate.clone();
    let service = ServiceBuilder::new()
        .concurrency_limit(2)
        .service_fn(move |request| entered.clone().pass(request));
    tokio::spawn(serve(server.clone(), service, tokio::spawn));
    let endpoint = client();
    let calls: Vec<_> =
        (0..5_u8).map(|n| endpoint.call(server.local_addr(), [n]).start()).collect();
    gate.until_inside(2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(gate.inside.load(Ordering::SeqCst), 2);
    // One more is accepted and waits for the service.
    assert_eq!(server.stats().requests_in_service, 3);
    gate.permits.add_permits(5);
    for (n, call) in (0..).zip(calls) {
        assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), [n]);
    }
}

/// Calls again what was not executed.
#[derive(Clone)]
struct Again {
    left: u32,
}

impl Policy<Message, Message, CallError> for Again {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _request: &mut Message,
        result: &mut Result<Message, CallError>,
    ) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        self.left = self.left.checked_sub(1)?;
        error.is_retryable().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Message) -> Option<Message> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn what_was_not_executed_is_called_again() {
    // It refuses everything.
    let server = bind_with(|builder| builder.queue_time_max(Duration::ZERO));
    let refusing = server.clone();
    let address = server.local_addr();
    let endpoint = client();
    tokio::spawn(async move { refusing.accept().await.map(drop) });
    let mut client = Retry::new(Again { left: 3 }, Client::new(&endpoint, address));
    let error = client.ready().await.unwrap().call("again".into()).await.unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Overloaded);
    assert_eq!(server.stats().requests_overdue, 4);
}

#[tokio::test]
async fn what_may_have_been_executed_is_not_called_again() {
    let (server, endpoint) = (bind(), client());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |_: Incoming| {
        counted.fetch_add(1, Ordering::SeqCst);
        ready(Err::<Message, _>(Rejection::new(7, "not yours")))
    });
    tokio::spawn(serve(server.clone(), service, tokio::spawn));
    let mut client = Retry::new(Again { left: 3 }, Client::new(&endpoint, server.local_addr()));
    let error = client.ready().await.unwrap().call("once".into()).await.unwrap_err();
    assert_eq!(error.rejection(), Some(&Rejection::new(7, "not yours")));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_error_of_a_layer_around_a_service_is_a_rejection() {
    let (server, endpoint) = (bind(), client());
    let service = ServiceBuilder::new().timeout(Duration::from_millis(10)).service_fn(
        async |request: Incoming| match request.body.is_empty() {
            true => Err(BoxError::from(Rejection::new(3, "empty"))),
            false => std::future::pending::<Result<Message, BoxError>>().await,
        },
    );
    tokio::spawn(serve(server.clone(), service, tokio::spawn));
    let error = endpoint.call(server.local_addr(), "long").await.unwrap_err();
    assert_eq!(error.rejection().unwrap().code, 0);
    assert_eq!(error.rejection().unwrap().text, "request timed out");
    let error = endpoint.call(server.local_addr(), "").await.unwrap_err();
    assert_eq!(error.rejection(), Some(&Rejection::new(3, "empty")));
}

#[tokio::test]
async fn an_error_of_a_service_is_what_the_service_makes_of_it() {
    struct Full;
    impl From<Full> for Failure {
        fn from(_full: Full) -> Self {
            Self::Refused
        }
    }
    let (server, endpoint) = (bind(), client());
    let service = service_fn(|_: Incoming| ready(Err::<Message, _>(Full)));
    tokio::spawn(serve(server.clone(), service, tokio::spawn));
    let error = endpoint.call(server.local_addr(), "one").await.unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Overloaded);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_failure_goes_through_layers_that_box_errors() {
    let (server, endpoint) = (bind(), client());
    let service = ServiceBuilder::new()
        .timeout(SOON)
        .map_err(Failure::from)
        .service_fn(|_: Incoming| ready(Err::<Message, _>(BoxError::from(Failure::Refused))));
    tokio::spawn(serve(server.clone(), service, tokio::spawn));
    let error = endpoint.call(server.local_addr(), "one").await.unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Overloaded);
}

#[tokio::test]
async fn load_that_a_service_sheds_is_refused_as_not_executed() {
    let (server, gate, endpoint) = (bind(), Gate::new(), client());
    let entered = gate.clone();
    let service = ServiceBuilder::new()
        .timeout(SOON)
        .load_shed()
        .concurrency_limit(1)
        .service_fn(move |request| entered.clone().pass(request));
    tokio::spawn(serve(server.clone(), service, tokio::spawn));
    let call = endpoint.call(server.local_addr(), "one").start();
    gate.until_inside(1).await;
    let error = endpoint.call(server.local_addr(), "two").await.unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Overloaded);
    gate.permits.add_permits(1);
    assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "one");
}

#[tokio::test]
async fn serving_ends_after_the_requests_in_service() {
    let (server, gate) = (bind(), Gate::new());
    let serving = serve_gated(&server, &gate);
    let endpoint = client();
    let call = endpoint.call(server.local_addr(), "one").start();
    gate.until_inside(1).await;
    server.stop_accepting();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!serving.is_finished());
    gate.permits.add_permits(1);
    assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "one");
    assert_eq!(timeout(SOON, serving).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn serving_ends_when_the_service_fails_to_become_ready() {
    struct Broken;
    impl Service<Incoming> for Broken {
        type Response = Message;
        type Error = Rejection;
        type Future = Ready<Result<Message, Rejection>>;

        fn poll_ready(
            &mut self,
            _context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Rejection>> {
            std::task::Poll::Ready(Err(Rejection::new(5, "broken")))
        }

        fn call(&mut self, request: Incoming) -> Self::Future {
            ready(Ok(request.body))
        }
    }
    let (server, endpoint) = (bind(), client());
    let serving = tokio::spawn(serve(server.clone(), Broken, tokio::spawn));
    // Nothing was executed.
    let error = endpoint.call(server.local_addr(), "one").await.unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Overloaded);
    let ended = timeout(SOON, serving).await.unwrap().unwrap().unwrap_err();
    assert_eq!(ended, ServeError::Service(Rejection::new(5, "broken").into()));
    assert_eq!(ended.to_string(), "the service ended with code 5: broken");
}
