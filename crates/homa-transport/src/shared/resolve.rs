//! A server's name becomes an address.

use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::wakes::store_waker;
use crate::Target;
use crate::drive::sync::{Mutex, lock};

/// Stack of a thread that resolves a name, in bytes: resolvers of the system load what they need.
const STACK_BYTES: usize = 512 << 10;

/// A name that is looked up by a thread of its own, so that nobody else waits for the resolver.
#[derive(Debug)]
pub(crate) struct Resolving {
    name: String,
    answer: Arc<Answer>,
}

#[derive(Debug, Default)]
struct Answer(Mutex<State>);

/// As with the whole endpoint: wakers run without the lock.
impl RefUnwindSafe for Answer {}

#[derive(Debug, Default)]
struct State {
    found: Option<Result<Vec<SocketAddr>, String>>,
    waker: Option<Waker>,
}

impl Resolving {
    pub(crate) fn begin(target: &Target) -> Self {
        let (name, answer) = (target.to_string(), Arc::<Answer>::default());
        let (asked, shared) = (name.clone(), Arc::clone(&answer));
        let thread =
            std::thread::Builder::new().name("homa-resolve".into()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let has_port =
                asked.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let found = match has_port {
                true => asked.to_socket_addrs().map(Iterator::collect).map_err(|e| e.to_string()),
                false => Err("a port is missing, as in `name:4000`".to_owned()),
            };
            shared.tell(found);
        });
        if let Err(error) = spawned {
            answer.tell(Err(error.to_string()));
        }
        Self { name, answer }
    }

    /// Ready with the first address that an endpoint at `local` can call, or why there is none.
    pub(crate) fn poll(
        &mut self,
        local: SocketAddr,
        waker: &Waker,
    ) -> Poll<Result<SocketAddr, String>> {
        let mut state = lock(&self.answer.0);
        let Some(found) = state.found.take() else {
            store_waker(&mut state.waker, waker);
            return Poll::Pending;
        };
        Poll::Ready(match found {
            Err(error) => Err(format!("`{}` has no address: {error}", self.name)),
            Ok(addresses) => addresses
                .into_iter()
                .find(|address| address.is_ipv4() || local.is_ipv6())
                .ok_or_else(|| format!("`{}` has no address that {local} can call", self.name)),
        })
    }
}

impl Answer {
    fn tell(&self, found: Result<Vec<SocketAddr>, String>) {
        let mut state = lock(&self.0);
        state.found = Some(found);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
