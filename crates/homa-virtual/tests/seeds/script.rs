//! A world of one host, whose peers are played packet by packet: for what no host of this
//! implementation does.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use homa_core::{Config, RpcInfo, Stats};
use homa_virtual::{Call, CallEnd, CallPlan, Dice, HostPlan, LinkPlan, Pattern, Response, World};
use homa_wire::{
    Ack, AckEntry, Body, Common, DATA_HEADER_BYTES, Data, Extension, Grant, Header, Packets,
    RESEND_ALL, Reason, Resend,
};

use super::{MS, US, between};

/// Port of the host under test.
const PORT: u16 = 4000;
/// The host under test, by index.
pub(super) const HOST: usize = 0;
/// Payload of a full packet: IPv4 and UDP at an MTU of 1,500 bytes.
pub(super) const FULL: u32 = 1500 - 20 - 8 - 56;
/// Time in which the host reacts to a packet, and its reaction arrives.
const REACTION_NS: u64 = 20 * US;

/// A peer that is played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    /// Among the hosts of the world.
    pub(super) index: usize,
    pub(super) address: SocketAddr,
    /// Its incarnation.
    pub(super) incarnation: u32,
    /// The incarnation of the host as it knows it, 0 if it does not.
    pub(super) echo: u32,
}

impl Remote {
    /// The same, who does not know the host.
    pub(super) fn unvalidated(self) -> Self {
        Self { echo: 0, ..self }
    }

    /// The same in another incarnation.
    pub(super) fn restarted(self) -> Self {
        Self { incarnation: self.incarnation ^ 0x0055_5555, ..self }
    }
}

/// A packet that the host sent to a peer.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) at_ns: u64,
    pub(super) to: SocketAddr,
    /// Priority in the network.
    pub(super) priority: u8,
    pub(super) header: Header,
    /// Of DATA, without padding.
    pub(super) payload: Vec<u8>,
    /// From the Homa header on.
    pub(super) bytes: u32,
}

impl Sent {
    pub(super) fn id(&self) -> u64 {
        self.header.common.sender_id
    }

    pub(super) fn data(&self) -> Option<&Data> {
        match &self.header.body {
            Body::Data(data) => Some(data),
            _ => None,
        }
    }

    pub(super) fn range(&self) -> Option<Range<u32>> {
        let start = self.data()?.offset(self.header.common.sequence);
        Some(start..start + self.payload.len() as u32)
    }

    pub(super) fn grant(&self) -> Option<Grant> {
        match self.header.body {
            Body::Grant(grant) => Some(grant),
            _ => None,
        }
    }

    pub(super) fn resend(&self) -> Option<Resend> {
        match self.header.body {
            Body::Resend(resend) => Some(resend),
            _ => None,
        }
    }

    pub(super) fn ack(&self) -> Option<Ack> {
        match self.header.body {
            Body::Ack(ack) => Some(ack),
            _ => None,
        }
    }

    pub(super) fn is_need_ack(&self) -> bool {
        matches!(self.header.body, Body::NeedAck)
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self.header.body, Body::Busy)
    }

    /// The reason if it is RPC_UNKNOWN.
    pub(super) fn unknown(&self) -> Option<Reason> {
        matches!(self.header.body, Body::RpcUnknown).then(|| self.header.reason())
    }
}

/// A played world.
pub(super) struct Script {
    pub(super) world: World,
    pub(super) dice: Dice,
}

impl Script {
    /// A host that serves.
    pub(super) fn new(dice: &mut Dice, config: Config) -> Self {
        Self::with_plan(dice, |plan| plan.config = config)
    }

    pub(super) fn with_plan(dice: &mut Dice, change: impl FnOnce(&mut HostPlan)) -> Self {
        let mut world = World::new(dice.roll());
        world.show_packets = std::env::var_os("HOMA_SHOW_PACKETS").is_some();
        // Nothing that a peer says crosses what it is asked.
        world.default_link = LinkPlan { delay_ns: 0, ..LinkPlan::default() };
        let mut plan = HostPlan::new(1);
        plan.rx_buffer_bytes = 1 << 28;
        change(&mut plan);
        world.add_host(plan);
        let mut script = Self { world, dice: Dice::new(dice.roll()) };
        // It has lived for longer than a copy may be on its way.
        script.pass(between(&mut script.dice.clone(), 1, 3) * MS);
        script
    }

    /// A peer at 10.1.`host`.1 that has heard of the host.
    pub(super) fn remote(&mut self, host: u8) -> Remote {
        self.remote_at(SocketAddr::from(([10, 1, host, 1], 900)))
    }

    pub(super) fn remote_at(&mut self, address: SocketAddr) -> Remote {
        let index = self.world.add_remote(address);
        let incarnation = between(&mut self.dice, 1, 0x00FF_FFFF) as u32;
        let echo = self.ours(address.ip());
        self.world.auditor.heard_of(HOST, address.ip(), echo);
        Remote { index, address, incarnation, echo }
    }

    /// Several of them, each at an address of its own.
    pub(super) fn remotes(&mut self, count: u8) -> Vec<Remote> {
        (1..=count).map(|host| self.remote(host)).collect()
    }

    fn ours(&self, ip: IpAddr) -> u32 {
        self.world.shard(HOST).expect("it is up").engine().incarnation(ip)
    }

    pub(super) fn stats(&self) -> Stats {
        self.world.shard(HOST).expect("it is up").stats()
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    pub(super) fn rpcs(&self) -> Vec<RpcInfo> {
        self.world.shard(HOST).expect("it is up").engine().rpcs().collect()
    }

    /// The live RPC of this id, in the form of the host.
    pub(super) fn rpc(&self, id: u64) -> Option<RpcInfo> {
        self.rpcs().into_iter().find(|rpc| rpc.id == id)
    }

    // Time.

    /// Lets time pass and returns what peers heard meanwhile.
    pub(super) fn pass(&mut self, ns: u64) -> Vec<Sent> {
        let until_ns = self.world.now_ns() + ns;
        self.world.run_until(until_ns);
        self.heard()
    }

    pub(super) fn pass_ms(&mut self, ms: u64) -> Vec<Sent> {
        self.pass(ms * MS)
    }

    /// Lets the host react.
    pub(super) fn react(&mut self) -> Vec<Sent> {
        self.pass(REACTION_NS)
    }

    /// Has the host look for packets, and find none in the end: what was put off is done, and what
    /// is old forgotten.
    pub(super) fn look(&mut self) -> Vec<Sent> {
        let nobody = SocketAddr::from(([192, 0, 2, 9], 9));
        let mut sent = Vec::new();
        for _ in 0..3 {
            let now_ns = self.world.now_ns();
            self.world.inject(now_ns, nobody, HOST, vec![0; 8]);
            sent.extend(self.react());
        }
        sent
    }

    fn heard(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for heard in self.world.take_heard() {
            let (at_ns, to, priority) = (heard.at_ns, heard.to, heard.dscp >> 3);
            for (packet, bytes) in Packets::new(&heard.bytes, heard.bytes.len() as u32) {
                let header = Header::parse(packet, bytes).expect("a host sends whole packets");
                let payload = match &header.body {
                    Body::Data(data) => {
                        let start = data.offset(header.common.sequence);
                        let all = &packet[DATA_HEADER_BYTES..bytes as usize];
                        let room = data.message_length.saturating_sub(start) as usize;
                        all[..all.len().min(room)].to_vec()
                    }
                    _ => Vec::new(),
                };
                sent.push(Sent { at_ns, to, priority, header, payload, bytes });
            }
        }
        sent
    }

    // Packets of peers.

    pub(super) fn header(&mut self, from: &Remote, header: &Header, payload: &[u8]) {
        let mut bytes = vec![0; header.encoded_bytes()];
        header.encode(&mut bytes).expect("there is room");
        bytes.extend_from_slice(payload);
        let now_ns = self.world.now_ns();
        self.world.inject(now_ns, from.address, HOST, bytes);
    }

    /// DATA without payload.
    pub(super) fn data_header(&self, from: &Remote, id: u64, length: u32, start: u32) -> Header {
        let common = Common::data(from.address.port(), PORT, id, start)
            .with_native_profile(from.incarnation);
        let data = Data {
            message_length: length,
            incoming: length.min(40_000),
            echo: from.echo,
            seg_offset: start,
            ..Data::default()
        };
        Header { common, body: Body::Data(data), extension: None }
    }

    /// Bytes of a message, in packets; what is sent is the pattern's.
    pub(super) fn data(&mut self, from: &Remote, id: u64, pattern: Pattern, range: Range<u32>) {
        self.data_with(from, id, pattern, range, |_| {});
    }

    pub(super) fn data_with(
        &mut self,
        from: &Remote,
        id: u64,
        pattern: Pattern,
        range: Range<u32>,
        change: impl Fn(&mut Data),
    ) {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + FULL);
            let mut header = self.data_header(from, id, pattern.length(), start);
            if let Body::Data(data) = &mut header.body {
                change(data);
            }
            let payload: Vec<u8> =
                pattern.range(start, end).iter().flat_map(|part| part.to_vec()).collect();
            self.header(from, &header, &payload);
            start = end;
        }
    }

    pub(super) fn control(&mut self, from: &Remote, id: u64, body: Body, why: Reason, value: u32) {
        let common =
            Common::control(from.address.port(), PORT, id).with_native_profile(from.incarnation);
        let extension = Some(Extension { echo: from.echo, reason: why, value });
        self.header(from, &Header { common, body, extension }, &[]);
    }

    pub(super) fn busy(&mut self, from: &Remote, id: u64) {
        self.control(from, id, Body::Busy, Reason::None, 0);
    }

    pub(super) fn unknown(&mut self, from: &Remote, id: u64, why: Reason, value: u32) {
        self.control(from, id, Body::RpcUnknown, why, value);
    }

    pub(super) fn ack(&mut self, from: &Remote, id: u64) {
        self.acks(from, id, &[]);
    }

    /// One ACK that also lists others.
    pub(super) fn acks(&mut self, from: &Remote, id: u64, others: &[u64]) {
        let mut ack = Ack { count: others.len() as u16, ..Ack::default() };
        for (entry, client_id) in ack.entries.iter_mut().zip(others) {
            *entry = AckEntry { client_id: *client_id, server_port: PORT };
        }
        self.control(from, id, Body::Ack(ack), Reason::None, 0);
    }

    pub(super) fn grant(&mut self, from: &Remote, id: u64, offset: u32, received: u32) {
        let body = Body::Grant(Grant { offset, priority: 3 });
        self.control(from, id, body, Reason::None, received);
    }

    pub(super) fn resend(&mut self, from: &Remote, id: u64, range: Range<u32>) {
        let (offset, length) = (range.start, range.end - range.start);
        let body = Body::Resend(Resend { offset, length, priority: 7 });
        self.control(from, id, body, Reason::None, 0);
    }

    pub(super) fn resend_all(&mut self, from: &Remote, id: u64) {
        let body = Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 7 });
        self.control(from, id, body, Reason::None, 0);
    }

    // Calls.

    /// A call that `from` may make: the handler knows it and answers as planned.
    pub(super) fn plan(
        &mut self,
        from: &Remote,
        request: u32,
        reply: u32,
        response: Response,
    ) -> usize {
        let plan = CallPlan::new(from.index, HOST, request.max(2), reply);
        self.world.call_of_remote(CallPlan { response, ..plan })
    }

    /// The request of a planned call.
    pub(super) fn request_of(&self, call: usize) -> Pattern {
        Pattern::request(call as u32, self.world.ledger.calls[call].plan.request_bytes)
    }

    /// A whole request, which is answered at once; what the host said to it.
    pub(super) fn ask(
        &mut self,
        from: &Remote,
        id: u64,
        request: u32,
        reply: u32,
    ) -> (usize, Vec<Sent>) {
        self.ask_for(from, id, request, reply, Response::After { service_ns: 0 })
    }

    pub(super) fn ask_for(
        &mut self,
        from: &Remote,
        id: u64,
        request: u32,
        reply: u32,
        response: Response,
    ) -> (usize, Vec<Sent>) {
        let call = self.plan(from, request, reply, response);
        let pattern = self.request_of(call);
        self.data(from, id, pattern, 0..pattern.length());
        (call, self.react())
    }

    /// How often the handler of a call ran.
    pub(super) fn ran(&self, call: usize) -> u32 {
        self.world.ledger.calls[call].executions.iter().sum()
    }

    /// The host calls `to`; the number of the call.
    pub(super) fn call(&mut self, to: &Remote, request: u32, reply: u32) -> usize {
        self.call_with(to, request, reply, |_| {})
    }

    pub(super) fn call_with(
        &mut self,
        to: &Remote,
        request: u32,
        reply: u32,
        change: impl FnOnce(&mut CallPlan),
    ) -> usize {
        let mut plan = CallPlan::new(HOST, to.index, request.max(2), reply);
        plan.at_ns = self.world.now_ns();
        change(&mut plan);
        self.world.call(plan)
    }

    /// The host calls `to` and sends the beginning of the request: its number, its id in the
    /// server's form, and what was sent.
    pub(super) fn called(
        &mut self,
        to: &Remote,
        request: u32,
        reply: u32,
    ) -> (usize, u64, Vec<Sent>) {
        let call = self.call(to, request, reply);
        let sent = self.react();
        let id = self.id_of(call).expect("it is under way") | 1;
        (call, id, sent)
    }

    /// The id of a call of the host, in its own form.
    pub(super) fn id_of(&self, call: usize) -> Option<u64> {
        let rpc = self.entry(call).rpc?;
        self.rpcs().into_iter().find(|info| info.rpc == rpc).map(|info| info.id)
    }

    pub(super) fn entry(&self, call: usize) -> &Call {
        &self.world.ledger.calls[call]
    }

    pub(super) fn end(&self, call: usize) -> Option<CallEnd> {
        self.entry(call).end
    }

    /// The response of a call.
    pub(super) fn response_of(&self, call: usize) -> Pattern {
        Pattern::response(call as u32, self.entry(call).plan.response_bytes)
    }

    /// The whole response of a call comes.
    pub(super) fn reply(&mut self, from: &Remote, id: u64, call: usize) {
        let pattern = self.response_of(call);
        self.data(from, id, pattern, 0..pattern.length());
    }

    /// What holds at the end of every world.
    pub(super) fn broken_promises(&mut self) -> Vec<String> {
        let mut wrong = self.world.leftovers();
        self.heard();
        let twice = self.world.ledger.executed_twice();
        wrong.extend(twice.iter().map(|call| format!("the handler of call {call} ran twice")));
        wrong.extend(self.world.ledger.violations.iter().cloned());
        wrong.extend(self.world.auditor.violations.iter().cloned());
        wrong
    }
}

/// An id as a client chooses it.
pub(super) fn client_id(dice: &mut Dice) -> u64 {
    dice.roll() & !1
}
