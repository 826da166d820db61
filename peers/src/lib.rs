//! QUIC and gRPC as transports of Homa's comparisons, in a program of its own so that Homa depends
//! on neither.
//!
//! The program is the host agent of `homa bench cluster` with other transports: the load, the
//! clock, the scheduling and the report are those of `homa bench-host`, only the [`Mesh`] differs.
//!
//! * [`Tasks`](homa_bench::agent::Tasks): the one thread of a host, with a timer precise enough for
//!   the load; [`messages`]: what is sent and what the answer must be; [`pool`]: which connection a
//!   call takes.
//! * [`quic`] with quinn, [`grpc`] with tonic; each says how it is tuned and why.

pub mod grpc;
pub mod messages;
pub mod pool;
pub mod quic;

use std::io;

use homa_bench::{agent::Mesh, spec::HostSpec, transport::Transport};

/// Opens the transport of a specification.
///
/// # Errors
/// It is none of this program's, or what the system says.
pub fn open(spec: &HostSpec) -> io::Result<Box<dyn Mesh>> {
    Ok(match &spec.transport {
        Transport::Quic { connections } => Box::new(quic::QuicMesh::new(spec, *connections)?),
        Transport::Grpc { connections } => Box::new(grpc::GrpcMesh::new(spec, *connections)?),
        other => {
            let text = format!("{other} is spoken by `homa bench-host`");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    })
}
