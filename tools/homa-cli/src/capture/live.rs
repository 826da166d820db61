//! `homa capture --iface`: records what passes an interface, and explains it.

use std::{
    fs::File,
    io::{self, BufWriter},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use homa_capture::{
    Analysis, CaptureWriter, Decoder, LinkType, Offload, Recorded, WriteError, as_on_wire,
};
use homa_sys::{PacketSocket, PollFd, packet::PacketBuffer, poll_fds};

use super::{args::CaptureArgs, output::Output};
use crate::{error::CliError, interrupt};

/// How long a look for packets waits before it looks for Ctrl-C and the end.
const LOOK: Duration = Duration::from_millis(100);
/// Frames taken before the output is handed on.
const FRAMES_PER_LOOK: usize = 4_096;
/// What the kernel keeps for us while we are busy, in bytes of its accounting.
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
const NONE: u16 = 65_534;

type Writer = CaptureWriter<BufWriter<File>>;

pub(super) fn run(
    args: &CaptureArgs,
    interface: &str,
    decoder: Decoder,
    json: bool,
) -> Result<(), CliError> {
    let mut socket = PacketSocket::open(interface, &args.udp_port)
        .map_err(|error| CliError::Usage(why_not(interface, &error)))?;
    // A smaller buffer only loses frames earlier.
    let _ = socket.set_receive_buffer(RECEIVE_BUFFER_BYTES);
    let link = link_type(interface, socket.hardware_type())?;
    let mut session = Session {
        link,
        writer: open_writer(args, link, interface)?,
        analysis: Analysis::new(decoder, args.rpcs_max),
        output: Output::new(json, args.rpc),
        packets: 0,
        packets_max: args.count.unwrap_or(u64::MAX),
    };
    interrupt::watch(|| {});
    eprintln!("homa: capturing on {interface}, Ctrl-C ends");
    let outcome = session.record(&socket, args.secs.map(|secs| Instant::now() + secs));
    if let Ok((_, dropped @ 1..)) = socket.statistics() {
        eprintln!(
            "homa: {dropped} frames were lost because they came too fast: findings may be wrong"
        );
    }
    session.finish().and(outcome)
}

/// A running capture.
struct Session {
    link: LinkType,
    writer: Option<Writer>,
    analysis: Analysis,
    output: Output,
    packets: u64,
    packets_max: u64,
}

impl Session {
    /// Records until the time, the number of packets or Ctrl-C ends it.
    fn record(&mut self, socket: &PacketSocket, until: Option<Instant>) -> Result<(), CliError> {
        let mut buffer = PacketBuffer::new();
        while !interrupt::pressed() && !self.output.is_over() {
            let now = Instant::now();
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(now).min(LOOK));
            if left.is_zero() {
                break;
            }
            let mut fds = [PollFd::new(socket.as_fd(), true, false)];
            match poll_fds(&mut fds, Some(left)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(|error| CliError::io("waiting for frames", &error))?,
            };
            for _ in 0..FRAMES_PER_LOOK {
                if self.packets >= self.packets_max {
                    return Ok(());
                }
                match socket.recv(&mut buffer) {
                    Ok(Some(packet)) => self.packet(&packet)?,
                    Ok(None) => break,
                    // Down for now, interrupted, or a frame that cannot be described: go on.
                    Err(error) if is_passing(&error) => break,
                    Err(error) => return Err(CliError::io("receiving frames", &error)),
                }
            }
            self.output.flush();
        }
        Ok(())
    }

    fn packet(&mut self, packet: &homa_sys::packet::Packet<'_>) -> Result<(), CliError> {
        let offload = Offload {
            segment_bytes: packet.segment_bytes,
            checksum_at: packet.checksum_at,
            vlan: packet.vlan,
        };
        let mut outcome = Ok(());
        as_on_wire(self.link, packet.bytes, offload, |data| {
            if self.packets >= self.packets_max || outcome.is_err() {
                return;
            }
            let recorded = Recorded {
                time_ns: packet.time_ns,
                link: self.link,
                original_bytes: u32::try_from(data.len()).unwrap_or(u32::MAX),
                data,
            };
            let found = self.output.frame(&mut self.analysis, &recorded);
            self.packets += found;
            if found > 0 {
                if let Some(writer) = &mut self.writer {
                    outcome = writer.write(&recorded);
                }
            }
        });
        outcome.map_err(|error| cannot_write(&error))
    }

    fn finish(mut self) -> Result<(), CliError> {
        let written = self
            .writer
            .take()
            .map_or(Ok(()), |writer| writer.finish().map_err(|error| cannot_write(&error)));
        self.output.finish(&self.analysis).and(written)
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, InvalidInput, NetworkDown};
    matches!(error.kind(), Interrupted | InvalidInput | NetworkDown)
}

fn cannot_write(error: &WriteError) -> CliError {
    CliError::Transport(format!("cannot write the recording: {error}"))
}

fn open_writer(
    args: &CaptureArgs,
    link: LinkType,
    interface: &str,
) -> Result<Option<Writer>, CliError> {
    let Some(path) = &args.write else {
        return Ok(None);
    };
    let failed = |reason: String| CliError::File { action: "write", path: path.to_owned(), reason };
    let file = File::create(path).map_err(|error| failed(error.to_string()))?;
    let writer = CaptureWriter::new(BufWriter::new(file), link, interface);
    writer.map(Some).map_err(|error| failed(error.to_string()))
}

fn link_type(interface: &str, hardware_type: u16) -> Result<LinkType, CliError> {
    match hardware_type {
        ETHERNET | LOOPBACK => Ok(LinkType::Ethernet),
        NONE => Ok(LinkType::RawIp),
        other => Err(CliError::Usage(format!(
            "cannot capture on `{interface}`: its hardware type {other} is not supported \
             (Ethernet, loopback and IP tunnels are)"
        ))),
    }
}

/// Why capturing cannot begin, and what to do about it.
fn why_not(interface: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let program = std::env::current_exe()
                .map_or_else(|_| "homa".to_owned(), |path| path.display().to_string());
            format!(
                "capturing on `{interface}` needs the capability CAP_NET_RAW; as root, or after\n  \
                 sudo setcap cap_net_raw+ep {program}"
            )
        }
        io::ErrorKind::NotFound => {
            format!("there is no network interface `{interface}`; `ip link` lists them")
        }
        _ => format!("cannot capture on `{interface}`: {error}"),
    }
}
