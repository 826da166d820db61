//! QUIC and gRPC as transports of Homa's comparisons, in a program of its own so that Homa depends
//! on neither.
//!
//! The program is the host agent of `homa bench cluster` with other transports: the load, the
//! clock, the scheduling and the report are those of `homa bench-host`, only the [`Mesh`] differs.
//!
//! It is also the client or the server of `homa bench local` ([`pair()`]), on a core of its own.
//!
//! * [`Tasks`](homa_bench::agent::Tasks): the one thread of a host, with a timer precise enough for
//!   the load; [`messages`]: what is sent and what the answer must be; [`pool`]: which connection a
//!   call takes.
//! * [`quic`] with quinn, [`grpc`] with tonic; each says how it is tuned and why.

pub mod grpc;
pub mod messages;
pub mod pool;
pub mod quic;

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use homa_bench::{
    agent::Mesh,
    pair::{self, Closed, Job, Outcome},
    spec::HostSpec,
    transport::Transport,
};

/// Opens the transport of a specification.
///
/// # Errors
/// It is none of this program's, or what the system says.
pub fn open(spec: &HostSpec) -> io::Result<Box<dyn Mesh>> {
    Ok(match &spec.transport {
        Transport::Quic { connections } => Box::new(quic::QuicMesh::new(spec, *connections)?),
        Transport::Grpc { connections } => Box::new(grpc::GrpcMesh::new(spec, *connections)?),
        other => return Err(foreign(other)),
    })
}

fn foreign(transport: &Transport) -> io::Error {
    let text = format!("{transport} is spoken by `homa bench-host`");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// How long a server waits at a time.
const IDLE: Duration = Duration::from_secs(3_600);

/// One process of a pair: does a job and says on a line what came of it, or why nothing did.
///
/// # Errors
/// The job cannot be read, nobody hears, or a server cannot go on.
pub fn pair(job: &str, mut says: impl Write) -> io::Result<()> {
    let job: Job = serde_json::from_str(job)?;
    pair::end_with_parent();
    match job {
        Job::Serve(side) => {
            let bound = pair::pin(side.cpu).and_then(|()| open(&side.spec));
            let address = bound.as_ref().map(|mesh| mesh.address()).map_err(ToString::to_string);
            writeln!(says, "{}", serde_json::to_string(&address)?)?;
            // Its parent says why there is none.
            let Ok(mut mesh) = bound else { return Ok(()) };
            loop {
                mesh.poll(Instant::now() + IDLE, &mut Vec::new())?;
            }
        }
        Job::Measure { side, server, load } => {
            let found = pair::pin(side.cpu).and_then(|()| measure(&side.spec, server, &load));
            let found: Result<Outcome, String> = found.map_err(|error| error.to_string());
            writeln!(says, "{}", serde_json::to_string(&found)?)
        }
    }
}

fn measure(spec: &HostSpec, server: SocketAddr, load: &Closed) -> io::Result<Outcome> {
    match &spec.transport {
        Transport::Quic { connections } => {
            quic::QuicMesh::new(spec, *connections)?.measure(server, load)
        }
        Transport::Grpc { connections } => {
            grpc::GrpcMesh::new(spec, *connections)?.measure(server, load)
        }
        other => Err(foreign(other)),
    }
}
