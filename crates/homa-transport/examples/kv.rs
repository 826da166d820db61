//! A key-value store in tasks: rejections, metadata, deadlines, and an orderly end at SIGTERM.
//!
//! Run it with `cargo run -p homa-transport --example kv`.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use homa_transport::{CallErrorKind, Endpoint, Request};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// What a rejection means is up to the service.
const NOT_FOUND: u32 = 1;
const BAD_REQUEST: u32 = 2;

#[derive(Default)]
struct Store {
    values: Mutex<HashMap<String, String>>,
    changed: Notify,
}

impl Store {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, String>) -> T) -> T {
        change(&mut self.values.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(&self, mut request: Request) {
        let trace = request.metadata().get("trace").map(|id| id.escape_ascii().to_string());
        let text = request.take_body().into_string().unwrap_or_default();
        println!("{}: {text}", trace.as_deref().unwrap_or("-"));
        let found = match text.split(' ').collect::<Vec<_>>()[..] {
            ["get", key] => self.with(|values| values.get(key).cloned()),
            ["delete", key] => self.with(|values| values.remove(key)),
            ["await", key] => tokio::select! {
                value = self.until_there(key) => Some(value),
                // The client's deadline has come, or it aborted the call: nobody wants an answer.
                () = request.cancelled() => return,
            },
            ["put", key, value] => {
                self.with(|values| values.insert(key.to_owned(), value.to_owned()));
                self.changed.notify_waiters();
                Some(String::new())
            }
            _ => return request.reject(BAD_REQUEST, text),
        };
        match found {
            // A client that has given up is no reason to do anything.
            Some(value) => drop(request.reply(value).await),
            None => request.reject(NOT_FOUND, "no such key"),
        }
    }

    async fn until_there(&self, key: &str) -> String {
        loop {
            let changed = self.changed.notified();
            if let Some(value) = self.with(|values| values.get(key).cloned()) {
                return value;
            }
            changed.await;
        }
    }
}

/// Serves until SIGTERM; gives the number of requests that were not answered.
async fn serve(server: Endpoint) -> std::io::Result<usize> {
    let store = Arc::new(Store::default());
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            Ok(request) = server.accept() => {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.answer(request).await });
            }
            _ = terminate.recv() => break,
        }
    }
    // Requests that no handler has seen go back to their clients, accepted ones are answered.
    Ok(server.drain(Duration::from_secs(5)).await)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Endpoint::bind("127.0.0.1:0")?;
    let address = server.local_addr();
    let serving = tokio::spawn(serve(server));

    let client = Endpoint::client()?;
    let call = |text: &str| {
        client.call(address, text).metadata("trace", "4711").timeout(Duration::from_secs(5))
    };
    // It is in service until the key is there.
    let awaited = call("await color").start();
    call("put color blue").await?;
    assert_eq!(awaited.await?, "blue");
    assert_eq!(call("delete color").await?, "blue");

    let missing = call("get color").await.err().ok_or("it was deleted")?;
    println!("{missing}");
    assert_eq!(missing.rejection().map(|rejection| rejection.code), Some(NOT_FOUND));

    // The server is told how much time there is; this call has no chance.
    let late = call("await color").timeout(Duration::from_millis(500)).await;
    let late = late.err().ok_or("nobody set it")?;
    println!("{late}");
    assert!(matches!(late.kind(), CallErrorKind::DeadlineExceeded { sent: true, .. }));

    kill_process(getpid(), Signal::TERM)?;
    assert_eq!(serving.await??, 0);
    let gone = call("get color").await.err().ok_or("the server has ended")?;
    println!("{gone}; worth a try elsewhere: {}", gone.is_retryable());
    Ok(())
}
