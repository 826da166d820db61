//! TCP as programs of many tasks use it: callers hand requests to a task that writes all that are
//! at hand together, and a task that reads hands replies to those who wait for them.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use foldhash::fast::FixedState;
use homa_bench::{
    pair::{CPU_REQUEST, TaskClient},
    tcp::{frame::FrameBuffer, output::Output},
};
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
};

use super::connect;
use crate::{
    error::CliError,
    transport::{MESSAGE_BYTES_MAX, Settings},
};

/// Requests that one write takes at most; the longest bodies are not copied.
const BATCH: usize = 256;

/// Connections to a server that all tasks share, in turns.
#[derive(Debug, Clone)]
pub(crate) struct TaskConnections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connections: Vec<Connection>,
    next: AtomicUsize,
}

/// Where one connection takes requests, which a call waits for the reply to.
#[derive(Debug)]
struct Connection {
    // Bounded by the calls under way.
    requests: UnboundedSender<(u64, Bytes)>,
    waiting: Arc<Waiting>,
}

/// Who waits for which reply; none any more once the connection broke.
#[derive(Debug, Default)]
struct Waiting(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    last_id: u64,
    replies: HashMap<u64, oneshot::Sender<Bytes>, FixedState>,
    broken: Option<String>,
}

impl TaskConnections {
    /// Connects to a server; call on a runtime.
    pub(crate) fn open(server: SocketAddr, settings: &Settings) -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::io("socket", &error);
        let mut connections = Vec::new();
        for _ in 0..settings.connections.max(1) {
            let stream = connect(server, settings)?;
            stream.set_nonblocking(true).map_err(failed)?;
            connections.push(Connection::run(TcpStream::from_std(stream).map_err(failed)?));
        }
        Ok(TaskConnections(Arc::new(Shared { connections, next: AtomicUsize::new(0) })))
    }

    async fn exchange(&self, request: Bytes) -> io::Result<Bytes> {
        let Shared { connections, next } = &*self.0;
        let index = match connections.len() {
            1 => 0,
            count => next.fetch_add(1, Ordering::Relaxed) % count,
        };
        let Connection { requests, waiting } = &connections[index];
        let (id, reply) = waiting.add()?;
        requests.send((id, request)).map_err(|_| waiting.why())?;
        reply.await.map_err(|_| waiting.why())
    }
}

impl TaskClient for TaskConnections {
    async fn call(&self, request: Bytes) -> io::Result<usize> {
        Ok(self.exchange(request).await?.len())
    }

    async fn server_cpu_ns(&self) -> io::Result<u64> {
        let reply = self.exchange(Bytes::from_static(&CPU_REQUEST)).await?;
        // A server that is not one of ours does not tell.
        Ok(reply[..].try_into().map_or(0, u64::from_le_bytes))
    }
}

impl Connection {
    /// Starts the tasks that read and write.
    fn run(stream: TcpStream) -> Self {
        let (requests, receiver) = unbounded_channel();
        let (stream, waiting) = (Arc::new(stream), Arc::<Waiting>::default());
        let of_reader = (Arc::clone(&stream), Arc::clone(&waiting));
        tokio::spawn(async move {
            let (stream, waiting) = of_reader;
            if let Err(error) = read(&stream, &waiting).await {
                waiting.give_up(&error);
            }
        });
        let of_writer = Arc::clone(&waiting);
        tokio::spawn(async move {
            if let Err(error) = write(&stream, receiver).await {
                of_writer.give_up(&error);
            }
        });
        Connection { requests, waiting }
    }
}

impl Waiting {
    fn add(&self) -> io::Result<(u64, oneshot::Receiver<Bytes>)> {
        let (sender, receiver) = oneshot::channel();
        let mut calls = self.lock();
        if let Some(reason) = &calls.broken {
            return Err(io::Error::other(reason.clone()));
        }
        calls.last_id += 1;
        let id = calls.last_id;
        calls.replies.insert(id, sender);
        Ok((id, receiver))
    }

    fn end(&self, id: u64, reply: &[u8]) {
        let call = self.lock().replies.remove(&id);
        if let Some(call) = call {
            // Who was dropped does not wait any more.
            let _ = call.send(Bytes::copy_from_slice(reply));
        }
    }

    fn give_up(&self, error: &io::Error) {
        let mut calls = self.lock();
        calls.broken.get_or_insert_with(|| error.to_string());
        calls.replies.clear();
    }

    fn why(&self) -> io::Error {
        let reason = self.lock().broken.clone();
        io::Error::other(reason.unwrap_or_else(|| "the connection ended".to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        // Nothing panics in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands replies to their calls, as many as one read takes.
async fn read(stream: &TcpStream, waiting: &Waiting) -> io::Result<()> {
    let mut input = FrameBuffer::new(MESSAGE_BYTES_MAX);
    loop {
        while let Some(frame) = input.next_frame()? {
            waiting.end(frame.id, input.bytes(frame.body()));
        }
        stream.readable().await?;
        match stream.try_read(input.free_space()?) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => input.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes all requests at hand together, until nobody has any more.
async fn write(
    stream: &TcpStream,
    mut requests: UnboundedReceiver<(u64, Bytes)>,
) -> io::Result<()> {
    let (mut output, mut batch) = (Output::default(), Vec::with_capacity(BATCH));
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        batch.drain(..).for_each(|(id, request)| output.push(id, &request));
        while !output.flush(&mut Writer(stream))? {
            stream.ready(Interest::WRITABLE).await?;
        }
    }
    Ok(())
}

/// Writes what the kernel takes at once.
struct Writer<'a>(&'a TcpStream);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{TcpListener, TcpStream as Blocking},
        thread,
    };

    use homa_bench::tcp::frame;

    use super::*;
    use crate::serve::settings;

    fn run(server: impl FnOnce(Blocking) + Send + 'static, calls: usize) -> Vec<io::Result<usize>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || server(listener.accept().unwrap().0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(async {
            let client = TaskConnections::open(address, &settings(false, 1)).unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            for length in 0..calls {
                let client = client.clone();
                tasks.spawn(async move { client.call(vec![7; length].into()).await });
            }
            tasks.join_all().await
        });
        drop(runtime);
        served.join().unwrap();
        ended
    }

    #[test]
    fn replies_find_their_calls_in_any_order() {
        // All frames of ten calls, answered from the last to the first.
        let server = |mut stream: Blocking| {
            let mut requests = vec![0; 10 * frame::HEADER_BYTES + 45];
            stream.read_exact(&mut requests).unwrap();
            let mut input = FrameBuffer::new(1_000);
            input.fill(&mut &requests[..]).unwrap();
            let mut frames = Vec::new();
            while let Some(frame) = input.next_frame().unwrap() {
                frames.insert(0, input.bytes(frame.whole).to_vec());
            }
            stream.write_all(&frames.concat()).unwrap();
            let _ = stream.read(&mut [0]);
        };
        let mut lengths: Vec<usize> = run(server, 10).into_iter().map(Result::unwrap).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn calls_over_a_connection_that_breaks_fail() {
        let ended = run(|mut stream| drop(stream.read(&mut [0; 8])), 5);
        assert_eq!(ended.len(), 5);
        assert!(ended.iter().all(Result::is_err), "{ended:?}");
    }
}
