//! TCP through tokio, on a current-thread runtime.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use homa_bench::tcp::frame::{self, FrameBuffer};

use super::connect;
use crate::{
    error::CliError,
    transport::{Answer, MESSAGE_BYTES_MAX, Responder, Settings},
};

/// A client with one connection and one call at a time.
#[derive(Debug)]
pub(crate) struct TokioClient {
    stream: TcpStream,
    input: FrameBuffer,
    output: Vec<u8>,
    next_id: u64,
}

impl TokioClient {
    /// Connects to a server; call on a runtime.
    pub(crate) fn connect(server: SocketAddr, settings: &Settings) -> Result<Self, CliError> {
        let stream = connect(server, settings)?;
        let open = || {
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        };
        let stream = open().map_err(|error| CliError::io("socket", &error))?;
        Ok(TokioClient {
            stream,
            input: FrameBuffer::new(MESSAGE_BYTES_MAX),
            output: Vec::new(),
            next_id: 0,
        })
    }

    /// One call; returns the reply.
    pub(crate) async fn call(&mut self, body: &Bytes) -> io::Result<&[u8]> {
        self.next_id += 1;
        append_frame(&mut self.output, self.next_id, body);
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        loop {
            if let Some(frame) = self.input.next_frame()? {
                return Ok(self.input.bytes(frame.body()));
            }
            read(&mut self.stream, &mut self.input).await?;
        }
    }
}

/// Serves each connection in a task of its own, for ever.
pub(crate) async fn serve(listener: TcpListener, responder: &Responder) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        // A connection that ended before it was accepted is no failure of the server.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let responder = responder.clone();
        tokio::spawn(async move {
            // The end of a connection, orderly or not, concerns its client alone.
            let _ = serve_connection(stream, &responder).await;
        });
    }
}

async fn serve_connection(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = FrameBuffer::new(MESSAGE_BYTES_MAX);
    let mut output = Vec::new();
    loop {
        while let Some(frame) = input.next_frame()? {
            let request = input.bytes(frame.body());
            match responder.answer(request, request.len()) {
                Answer::Echo => output.extend_from_slice(input.bytes(frame.whole)),
                Answer::Bytes(bytes) => append_frame(&mut output, frame.id, &bytes),
            }
        }
        stream.write_all(&output).await?;
        output.clear();
        read(&mut stream, &mut input).await?;
    }
}

async fn read(stream: &mut TcpStream, input: &mut FrameBuffer) -> io::Result<()> {
    match stream.read(input.free_space()?).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            input.advance(count);
            Ok(())
        }
    }
}

fn append_frame(output: &mut Vec<u8>, id: u64, body: &[u8]) {
    output.extend_from_slice(&frame::header(body.len(), id));
    output.extend_from_slice(body);
}
