//! Counters of the kernel's queues, asked for without a program in between: a tenth of a
//! millisecond instead of several.

use std::{collections::HashMap, io, sync::Mutex, sync::PoisonError, time::Duration};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcMessage, TcStats2},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use socket2::SockRef;

use crate::{LevelCounters, namespace::NetNs};

/// The kernel answers at once; it is not waited for without end all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// The kernel fills parts of an answer up to this.
const PART_BYTES: usize = 64 << 10;

/// Which queue: index of the device, minor number of the class it belongs to.
pub(crate) type Place = (i32, u16);

/// A socket of the kernel's packet scheduler in one namespace.
pub(crate) struct Qdiscs {
    socket: Mutex<Asked>,
}

struct Asked {
    socket: Socket,
    buffer: Vec<u8>,
    number: u32,
}

impl std::fmt::Debug for Qdiscs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Qdiscs")
    }
}

impl Qdiscs {
    /// Asks in the namespace `net` from now on.
    pub(crate) fn open(net: &NetNs) -> io::Result<Self> {
        let socket = net.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        })?;
        let asked = Asked { socket, buffer: Vec::with_capacity(PART_BYTES), number: 0 };
        Ok(Self { socket: Mutex::new(asked) })
    }

    /// All queues below a class, with what they have carried, dropped and hold.
    ///
    /// # Errors
    /// The kernel does not answer, or not understandably.
    pub(crate) fn read(&self) -> io::Result<HashMap<Place, LevelCounters>> {
        // A panic between question and answer leaves parts of an old answer, which its number gives
        // away.
        let mut asked = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        asked.ask()?;
        let mut found = HashMap::new();
        while !asked.take_part(&mut found)? {}
        Ok(found)
    }
}

impl Asked {
    fn ask(&mut self) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.number;
        let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Takes one part of the answer; says whether it was the last.
    fn take_part(&mut self, found: &mut HashMap<Place, LevelCounters>) -> io::Result<bool> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages begin at multiples of four bytes.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or(&[]);
            if message.header.sequence_number != self.number {
                continue;
            }
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewQueueDiscipline(queue)) => {
                    found.extend(counters(&queue));
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

fn counters(queue: &TcMessage) -> Option<(Place, LevelCounters)> {
    let statistics = queue.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Stats2(statistics) => Some(statistics),
        _ => None,
    })?;
    let mut found = LevelCounters::default();
    for statistic in statistics {
        match statistic {
            TcStats2::Basic(basic) => {
                found.sent_bytes = basic.bytes;
                found.sent_packets = basic.packets.into();
            }
            TcStats2::Queue(queue) => {
                found.dropped_packets = queue.drops.into();
                found.queue_packets = queue.qlen.into();
                found.queue_bytes = queue.backlog.into();
            }
            _ => {}
        }
    }
    Some(((queue.header.index, queue.header.parent.minor), found))
}
