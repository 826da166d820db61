//! TCP through blocking sockets: the lowest latency TCP has when one call is outstanding.
//!
//! With [`Wait::Busy`] the sockets do not block and the threads spin on them.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};

use homa_bench::tcp::{
    frame::FrameBuffer,
    output::{write_all, write_frame},
};

use super::connect;
use crate::{
    error::CliError,
    transport::{Answer, Client, MESSAGE_BYTES_MAX, Responder, Settings, Wait},
};

/// A client with one connection and one call at a time.
#[derive(Debug)]
pub(crate) struct BlockingClient {
    stream: TcpStream,
    server: SocketAddr,
    input: FrameBuffer,
    scratch: Vec<u8>,
    wait: Wait,
    timeout: Option<Duration>,
    next_id: u64,
}

impl BlockingClient {
    /// Connects to a server.
    pub(crate) fn connect(server: SocketAddr, settings: &Settings) -> Result<Self, CliError> {
        let stream = connect(server, settings)?;
        if settings.wait == Wait::Busy {
            stream.set_nonblocking(true).map_err(|error| CliError::io("socket", &error))?;
        }
        Ok(BlockingClient {
            stream,
            server,
            input: FrameBuffer::new(MESSAGE_BYTES_MAX),
            scratch: Vec::new(),
            wait: settings.wait,
            timeout: None,
            next_id: 0,
        })
    }

    fn exchange(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> io::Result<()> {
        self.next_id += 1;
        write_frame(&mut self.stream, &mut self.scratch, self.next_id, body)?;
        let range = self.receive(timeout)?;
        sink(&mut self.input.bytes(range));
        Ok(())
    }

    /// Waits for the next frame; returns where its body is.
    fn receive(&mut self, timeout: Duration) -> io::Result<std::ops::Range<usize>> {
        if self.wait == Wait::Sleep && self.timeout != Some(timeout) {
            self.stream.set_read_timeout(Some(timeout))?;
            self.timeout = Some(timeout);
        }
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(frame) = self.input.next_frame()? {
                return Ok(frame.body());
            }
            match self.input.fill(&mut self.stream) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.wait == Wait::Sleep || Instant::now() >= deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn failed(&self, error: &io::Error) -> CliError {
        CliError::io(&format!("tcp call to {}", self.server), error)
    }
}

impl Client for BlockingClient {
    fn call(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError> {
        self.exchange(body, timeout, sink).map_err(|error| self.failed(&error))
    }
}

/// Serves each connection in a thread of its own, for ever.
pub(crate) fn serve(
    listener: &TcpListener,
    settings: &Settings,
    responder: &Responder,
) -> Result<(), CliError> {
    for stream in listener.incoming() {
        // A connection that ended before it was accepted is no failure of the server.
        let Ok(stream) = stream else { continue };
        let (settings, responder) = (settings.clone(), responder.clone());
        thread::Builder::new()
            .name("tcp-connection".to_owned())
            .spawn(move || {
                // The end of a connection, orderly or not, concerns its client alone.
                let _ = serve_connection(stream, &settings, &responder);
            })
            .map_err(|error| CliError::io("thread", &error))?;
    }
    Ok(())
}

fn serve_connection(
    mut stream: TcpStream,
    settings: &Settings,
    responder: &Responder,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if settings.wait == Wait::Busy {
        stream.set_nonblocking(true)?;
    }
    let mut input = FrameBuffer::new(MESSAGE_BYTES_MAX);
    let mut scratch = Vec::new();
    loop {
        while let Some(frame) = input.next_frame()? {
            let request = input.bytes(frame.body());
            match responder.answer(request, request.len()) {
                // The frame of an echo is the frame of its request.
                Answer::Echo => write_all(&mut stream, input.bytes(frame.whole))?,
                Answer::Bytes(bytes) => write_frame(&mut stream, &mut scratch, frame.id, &bytes)?,
            }
        }
        match input.fill(&mut stream) {
            Ok((0, _)) => return Ok(()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
}
