//! Users of endpoints: callers and handlers as the plan has them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use homa_transport::{
    AcceptError, BodyReader, BodyWriter, CallError, CallErrorKind, Endpoint, Message, Metadata,
    ReplyError, Responder, StreamError, StreamingCall,
};
use homa_virtual::HostPlan;

use super::executor::{Kind, Spawner, first, once};
use super::ledger::{End, Given, Ledger, Life, bytes_of, text_of, value_of};
use super::plan::{Answer, BothWays, Call, Read, Set, Settings, Style};

/// An address at which there is no host.
const NOBODY: u8 = 99;

pub(crate) fn address_of(host: Option<usize>) -> SocketAddr {
    HostPlan::new(host.map_or(NOBODY, |host| host as u8 + 1)).address
}

/// What users share.
#[derive(Clone)]
pub(crate) struct Users {
    pub(crate) spawner: Spawner,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    /// When those who accept may be impatient; afterwards worlds come to rest.
    pub(crate) impatient_ns: std::ops::Range<u64>,
}

impl Users {
    fn now_ns(&self) -> u64 {
        self.spawner.now_ns()
    }

    fn violation(&self, kind: &'static str, text: String) {
        self.ledger.borrow_mut().violation(kind, text);
    }

    async fn sleep(&self, duration_ns: u64) {
        if duration_ns > 0 {
            self.spawner.sleep(duration_ns).await;
        }
    }

    fn end(&self, call: u32, end: End) {
        let now_ns = self.now_ns();
        self.ledger.borrow_mut().end(call, end, now_ns);
    }

    fn give(&self, call: u32, life: Life, given: Given) {
        let now_ns = self.now_ns();
        self.ledger.borrow_mut().give(call, life, given, now_ns);
    }

    fn ended(&self, plan: &Call, result: Result<Message, CallError>) {
        let now_ns = self.now_ns();
        match result {
            Ok(response) => self.ledger.borrow_mut().answer(plan.number, &response, now_ns),
            Err(error) => self.end(plan.number, End::Failed(error)),
        }
    }

    // Callers.

    /// Makes a call and waits for its end, unless it is given up before.
    pub(crate) async fn call(&self, life: Life, endpoint: Endpoint, plan: Call) {
        let (number, cancel_ns) = (plan.number, plan.cancel_ns);
        let now_ns = self.now_ns();
        self.ledger.borrow_mut().begin(number, life, now_ns);
        let users = self.clone();
        let work = Box::pin(async move { users.make(life, endpoint, plan).await });
        let Some(cancel_ns) = cancel_ns else { return work.await };
        if first(work, self.spawner.sleep(cancel_ns)).await.is_err() {
            self.ledger.borrow_mut().give_up(number);
            self.end(number, End::GivenUp);
        }
    }

    fn whole(&self, endpoint: &Endpoint, plan: &Call) -> homa_transport::Call {
        let body = bytes_of(plan.number, false, 0..plan.bytes);
        let mut call = endpoint.call(address_of(plan.to), body);
        for (name, value) in beside(plan) {
            call = call.metadata(name, value);
        }
        match plan.timeout_ns {
            Some(timeout_ns) => call.timeout(Duration::from_nanos(timeout_ns)),
            None => call,
        }
    }

    async fn make(&self, life: Life, endpoint: Endpoint, plan: Call) {
        match plan.style {
            Style::Await => {
                let result = self.whole(&endpoint, &plan).await;
                self.ended(&plan, result);
            }
            Style::Start { later_ns } => {
                let call = self.whole(&endpoint, &plan).start();
                self.sleep(later_ns).await;
                self.ended(&plan, call.await);
            }
            Style::TryStart => {
                let result = match self.whole(&endpoint, &plan).try_start() {
                    Ok(call) => call.await,
                    Err(error) => Err(error),
                };
                self.ended(&plan, result);
            }
            Style::Reader { drop_after, gap_ns } => {
                match self.whole(&endpoint, &plan).reader().await {
                    Ok(reader) => self.read_response(&plan, reader, drop_after, gap_ns).await,
                    Err(error) => self.end(plan.number, End::Failed(error)),
                }
            }
            Style::Written { .. } => self.make_written(life, &endpoint, plan).await,
            Style::BothWays(ways) => self.make_both_ways(life, &endpoint, plan, ways).await,
        }
    }

    fn streaming(&self, endpoint: &Endpoint, plan: &Call) -> StreamingCall {
        let mut call = endpoint.call_streaming(address_of(plan.to));
        for (name, value) in beside(plan) {
            call = call.metadata(name, value);
        }
        match plan.timeout_ns {
            Some(timeout_ns) => call.timeout(Duration::from_nanos(timeout_ns)),
            None => call,
        }
    }

    async fn make_written(&self, life: Life, endpoint: &Endpoint, plan: Call) {
        match self.streaming(endpoint, &plan).length(plan.bytes).open().await {
            Ok((writer, call)) => {
                let (users, own) = (self.clone(), plan.clone());
                let name = format!("writer of call {}", plan.number);
                let work = async move { users.write_request(&own, writer).await };
                self.spawner.spawn(life.host, Kind::Call, name, work);
                self.ended(&plan, call.await);
            }
            Err(error) => self.end(plan.number, End::Failed(error)),
        }
    }

    async fn write_request(&self, plan: &Call, mut writer: BodyWriter) {
        let Style::Written { piece, gap_ns, drop_after } = plan.style else { return };
        let upto = drop_after.unwrap_or(plan.bytes).min(plan.bytes);
        let mut at = 0;
        while at < upto {
            let end = (at + piece.max(1)).min(upto);
            if writer.send(bytes_of(plan.number, false, at..end)).await.is_err() {
                // The call has ended and says why.
                return;
            }
            at = end;
            self.sleep(gap_ns).await;
        }
        if at < plan.bytes {
            self.ledger.borrow_mut().writer_dropped(plan.number);
        } else if let Err(error) = writer.finish() {
            self.violation("finish", format!("all of call {} was written: {error}", plan.number));
        }
    }

    async fn make_both_ways(&self, life: Life, endpoint: &Endpoint, plan: Call, ways: BothWays) {
        match self.streaming(endpoint, &plan).open().await {
            Ok((writer, call)) => {
                let (users, own) = (self.clone(), plan.clone());
                let name = format!("writer of call {}", plan.number);
                let work = async move { users.write_for_a_while(&own, writer, ways).await };
                self.spawner.spawn(life.host, Kind::Call, name, work);
                self.sleep(ways.later_ns).await;
                let Some(gap_ns) = ways.read_gap_ns else {
                    let result = call.await;
                    return self.ended(&plan, result);
                };
                match call.reader().await {
                    Ok(reader) => {
                        self.read_response(&plan, reader, ways.read_drop_after, gap_ns).await;
                    }
                    Err(error) => self.end(plan.number, End::Failed(error)),
                }
            }
            Err(error) => self.end(plan.number, End::Failed(error)),
        }
    }

    /// Writes an open body, until its writer is dropped.
    async fn write_for_a_while(&self, plan: &Call, writer: BodyWriter, ways: BothWays) {
        let writing = Box::pin(self.write_open(plan, writer, ways));
        let Some(drop_ns) = ways.drop_ns else { return writing.await };
        if first(writing, self.spawner.sleep(drop_ns)).await.is_err() {
            self.ledger.borrow_mut().writer_dropped(plan.number);
        }
    }

    async fn write_open(&self, plan: &Call, mut writer: BodyWriter, ways: BothWays) {
        let upto = ways.drop_after.unwrap_or(plan.bytes).min(plan.bytes);
        let mut at = 0;
        while at < upto {
            let end = (at + ways.piece.max(1)).min(upto);
            let sent = writer.send(bytes_of(plan.number, false, at..end)).await;
            self.ledger.borrow_mut().wrote(plan, &sent, self.now_ns());
            if sent.is_err() {
                return;
            }
            at = end;
            self.sleep(ways.gap_ns).await;
        }
        if ways.drop_after.is_some() {
            return self.ledger.borrow_mut().writer_dropped(plan.number);
        }
        self.ledger.borrow_mut().writer_finished(plan.number);
        if let Err(error) = writer.finish() {
            self.violation("finish", format!("all of call {} was written: {error}", plan.number));
        }
    }

    async fn read_response(
        &self,
        plan: &Call,
        mut reader: BodyReader,
        drop_after: Option<u32>,
        gap_ns: u64,
    ) {
        self.ledger.borrow_mut().check_metadata(plan, reader.metadata());
        // Of an open response that is here as a whole the length is known.
        let announced = reader.body_bytes();
        let is_open = plan.answer.is_open() && announced.is_none();
        if !is_open && announced != Some(plan.response_bytes()) {
            let text = format!("{:?} bytes announced for {plan:?}", reader.body_bytes());
            self.violation("other bytes", text);
        }
        let mut message = Message::new();
        loop {
            if drop_after.is_some_and(|bytes| message.len() >= bytes as usize) {
                // Who has read everything gives nothing up.
                if message.len() < plan.response_bytes() as usize {
                    self.ledger.borrow_mut().give_up(plan.number);
                }
                drop(reader);
                return self.end(plan.number, End::GivenUp);
            }
            match reader.chunk().await {
                Ok(Some(chunk)) => {
                    let at = message.len() as u32;
                    if bytes_of(plan.number, true, at..at + chunk.len() as u32) != chunk {
                        let text = format!("response to call {} from byte {at}", plan.number);
                        self.violation("other bytes", text);
                    }
                    message.push(chunk);
                    if message.len() == plan.response_bytes() as usize {
                        self.ledger.borrow_mut().has_read_all(plan.number);
                    }
                }
                Ok(None) => {
                    let message = message.with_metadata(reader.metadata().clone());
                    return self.ended(plan, Ok(message));
                }
                Err(StreamError::Call(error)) => {
                    return self.end(plan.number, End::Failed(error));
                }
                Err(error) => {
                    self.violation("other error", format!("reading a response: {error}"));
                    return self.end(plan.number, End::GivenUp);
                }
            }
            self.sleep(gap_ns).await;
        }
    }

    /// Makes the calls of a set and takes their ends.
    pub(crate) async fn set(&self, life: Life, endpoint: Endpoint, plan: Set) {
        let numbers: Vec<u32> = plan.calls.iter().map(|call| call.number).collect();
        let (users, drop_ns) = (self.clone(), plan.drop_ns);
        let work = Box::pin(async move { users.make_set(life, endpoint, plan).await });
        let Some(drop_ns) = drop_ns else { return work.await };
        if first(work, self.spawner.sleep(drop_ns)).await.is_err() {
            let now_ns = self.now_ns();
            for number in numbers {
                self.ledger.borrow_mut().give_up_open(number, now_ns);
            }
        }
    }

    async fn make_set(&self, life: Life, endpoint: Endpoint, plan: Set) {
        let mut set = endpoint.call_set();
        let mut open = Vec::new();
        for call in plan.calls {
            let now_ns = self.now_ns();
            self.ledger.borrow_mut().begin(call.number, life, now_ns);
            self.ledger.borrow_mut().joins_set(call.number);
            match set.add(self.whole(&endpoint, &call)).await {
                Ok(id) => open.push((id, call)),
                Err(error) => self.end(call.number, End::Failed(error)),
            }
        }
        if plan.aborts && !open.is_empty() {
            let (id, call) = open.remove(0);
            self.ledger.borrow_mut().give_up(call.number);
            if !set.abort(id) {
                self.violation("set", format!("call {} was not in its set", call.number));
            }
            self.end(call.number, End::GivenUp);
        }
        loop {
            if set.len() != open.len() {
                let text = format!("{} calls in a set of {}", set.len(), open.len());
                self.violation("set", text);
            }
            let next = match plan.restless {
                false => set.join_next().await,
                true => loop {
                    if let Some(next) = once(set.join_next()).await {
                        break next;
                    }
                    self.sleep(50_000).await;
                },
            };
            let Some((id, result)) = next else { break };
            match open.iter().position(|(other, _)| *other == id) {
                Some(at) => {
                    let (_, call) = open.remove(at);
                    self.ended(&call, result);
                }
                None => self.violation("set", format!("{id:?} is not in it: {result:?}")),
            }
        }
        if !open.is_empty() {
            self.violation("set", format!("{} calls never ended", open.len()));
        }
    }

    // Servers.

    /// Accepts requests until nothing can be accepted any more.
    pub(crate) async fn accept(&self, life: Life, endpoint: Endpoint, settings: Settings) {
        loop {
            let impatient_ns =
                settings.impatient_ns.filter(|_| self.impatient_ns.contains(&self.now_ns()));
            let accepted = match (settings.streams, impatient_ns) {
                (false, None) => Some(self.accept_whole(life, &endpoint).await),
                (true, None) => Some(self.accept_stream(life, &endpoint).await),
                (false, Some(ns)) => {
                    let accepted = Box::pin(self.accept_whole(life, &endpoint));
                    first(accepted, self.spawner.sleep(ns)).await.ok()
                }
                (true, Some(ns)) => {
                    let accepted = Box::pin(self.accept_stream(life, &endpoint));
                    first(accepted, self.spawner.sleep(ns)).await.ok()
                }
            };
            match accepted {
                Some(Ok(())) => {}
                None => {
                    // Away for a moment: others have to be woken for what comes.
                    self.sleep(impatient_ns.unwrap_or(1)).await;
                }
                Some(Err(AcceptError::Closed)) => {
                    let stopped = self.ledger.borrow_mut().life(life).stopped_ns.is_some();
                    if !stopped {
                        self.violation("closed", format!("accepting ended at {life:?}"));
                    }
                    return;
                }
                Some(Err(error)) => {
                    return self.violation("accept", format!("{error} at {life:?}"));
                }
            }
        }
    }

    async fn accept_whole(&self, life: Life, endpoint: &Endpoint) -> Result<(), AcceptError> {
        let request = endpoint.accept().await?;
        let at_ns = self.now_ns();
        let (body, responder) = request.into_parts();
        let number = number_in(body.metadata()).or_else(|| number_of(&body.to_vec()));
        let users = self.clone();
        let endpoint = endpoint.clone();
        self.ledger.borrow_mut().accepted(life, at_ns);
        let Some(plan) = self.execute(number, life, body.metadata(), at_ns) else { return Ok(()) };
        if body.to_vec() != bytes_of(plan.number, false, 0..plan.bytes) {
            self.violation("other bytes", format!("request of call {}", plan.number));
        }
        self.ledger.borrow_mut().read_to_end(&plan);
        if responder.is_cancelled() {
            self.violation("accepted in vain", format!("{plan:?} was given up before"));
        }
        self.check_deadline(&plan, &responder);
        let name = format!("handler of call {} at {life:?}", plan.number);
        self.spawner.spawn(life.host, Kind::Handler, name, async move {
            users.handle(life, endpoint, plan, responder).await;
        });
        Ok(())
    }

    async fn accept_stream(&self, life: Life, endpoint: &Endpoint) -> Result<(), AcceptError> {
        let stream = endpoint.accept_streaming().await?;
        let at_ns = self.now_ns();
        self.ledger.borrow_mut().accepted(life, at_ns);
        let users = self.clone();
        let endpoint = endpoint.clone();
        let metadata = stream.metadata().clone();
        let known = match number_in(&metadata) {
            None => None,
            number => match self.execute(number, life, &metadata, at_ns) {
                None => return Ok(()),
                plan => plan,
            },
        };
        let name = format!("handler of a stream, {:?} at {life:?}", number_in(&metadata));
        let work = async move {
            let collects = known.as_ref().filter(|plan| matches!(plan.read, Read::Collect));
            if let Some(plan) = collects {
                let plan = plan.clone();
                match stream.collect().await {
                    Ok(request) => {
                        let (body, responder) = request.into_parts();
                        if body.to_vec() != bytes_of(plan.number, false, 0..plan.bytes) {
                            users.violation("other bytes", format!("collected: {plan:?}"));
                        }
                        users.ledger.borrow_mut().read_to_end(&plan);
                        users.handle(life, endpoint, plan, responder).await;
                    }
                    Err(error) => users.reading_failed(&plan, life, &error),
                }
                return;
            }
            let body_bytes = stream.body_bytes();
            let (mut reader, responder) = stream.split();
            let mut at = 0;
            let plan = match known {
                Some(plan) => plan,
                None => {
                    // Its first bytes say which call it is.
                    let mut head = Vec::new();
                    while head.len() < 4 {
                        match reader.chunk().await {
                            Ok(Some(chunk)) => head.extend_from_slice(&chunk),
                            Ok(None) | Err(_) => return,
                        }
                    }
                    let number = number_of(&head);
                    let executed = users.execute(number, life, &metadata, at_ns);
                    let Some(plan) = executed else { return };
                    at = head.len() as u32;
                    if head != bytes_of(plan.number, false, 0..at) {
                        users.violation("other bytes", format!("head of call {}", plan.number));
                    }
                    plan
                }
            };
            if body_bytes != (!plan.goes_both_ways()).then_some(plan.bytes) {
                users.violation("other bytes", format!("{body_bytes:?} announced: {plan:?}"));
            }
            users.handle_stream(life, endpoint, plan, (reader, at), responder).await;
        };
        self.spawner.spawn(life.host, Kind::Handler, name, work);
        Ok(())
    }

    fn execute(
        &self,
        number: Option<u32>,
        life: Life,
        metadata: &Metadata,
        at_ns: u64,
    ) -> Option<Call> {
        let number = number.unwrap_or(u32::MAX);
        let mut ledger = self.ledger.borrow_mut();
        if !ledger.execute(number, life, metadata, at_ns) {
            return None;
        }
        ledger.plan_of(number).cloned()
    }

    fn check_deadline(&self, plan: &Call, responder: &Responder) {
        let deadline = responder.deadline();
        if deadline.is_some() != plan.timeout_ns.is_some() {
            self.violation("deadline", format!("{plan:?} came with {deadline:?}"));
        }
        let most = plan.timeout_ns.map(Duration::from_nanos);
        if let (Some(at), Some(most)) = (deadline, most) {
            let left = at.saturating_duration_since(std::time::Instant::now());
            let at_ns = self.now_ns().saturating_add(left.as_nanos() as u64);
            if left > most || self.ledger.borrow().is_after_its_deadline(plan, at_ns) {
                self.violation("deadline", format!("{plan:?} came with a later one, {left:?}"));
            }
        }
    }

    async fn handle_stream(
        &self,
        life: Life,
        endpoint: Endpoint,
        plan: Call,
        (reader, at): (BodyReader, u32),
        responder: Responder,
    ) {
        self.check_deadline(&plan, &responder);
        if let Answer::Transform { .. } = plan.answer {
            return self.transform(life, endpoint, plan, (reader, at), responder).await;
        }
        if matches!(plan.read, Read::Late) {
            self.handle(life, endpoint, plan.clone(), responder).await;
            // Its end is the client's matter then.
            let _ = self.read_request(&plan, reader, at, None).await;
            return;
        }
        let upto = match plan.read {
            Read::Part(bytes) => Some(bytes),
            _ => None,
        };
        let read = self.read_request(&plan, reader, at, upto).await;
        if upto.is_some() {
            self.ledger.borrow_mut().stops_reading(plan.number);
        }
        match read {
            Ok(()) => self.handle(life, endpoint, plan, responder).await,
            Err(error) => self.reading_failed(&plan, life, &error),
        }
    }

    async fn read_request(
        &self,
        plan: &Call,
        mut reader: BodyReader,
        mut at: u32,
        upto: Option<u32>,
    ) -> Result<(), StreamError> {
        if matches!(plan.read, Read::Collect) {
            let rest = reader.collect().await?;
            if rest.to_vec() != bytes_of(plan.number, false, at..plan.bytes) {
                self.violation("other bytes", format!("rest of call {}", plan.number));
            }
            self.ledger.borrow_mut().read_to_end(plan);
            return Ok(());
        }
        while upto.is_none_or(|upto| at < upto) {
            if !self.read_piece(plan, &mut reader, &mut at).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the next bytes of a request from byte `at` on; whether there were any.
    async fn read_piece(
        &self,
        plan: &Call,
        reader: &mut BodyReader,
        at: &mut u32,
    ) -> Result<bool, StreamError> {
        let Some(chunk) = reader.chunk().await? else {
            if *at != plan.bytes {
                self.violation("other bytes", format!("{at} bytes read of {plan:?}"));
            }
            self.ledger.borrow_mut().read_to_end(plan);
            return Ok(false);
        };
        let end = *at + chunk.len() as u32;
        if end > plan.bytes || bytes_of(plan.number, false, *at..end) != chunk {
            self.violation("other bytes", format!("call {} from byte {at}", plan.number));
        }
        *at = end;
        Ok(true)
    }

    /// Answers a request while it reads it.
    async fn transform(
        &self,
        life: Life,
        endpoint: Endpoint,
        plan: Call,
        (mut reader, mut at): (BodyReader, u32),
        responder: Responder,
    ) {
        let Answer::Transform { stop_after, gap_ns, drop_after, metadata } = plan.answer else {
            return;
        };
        let number = plan.number;
        self.prepare(life, endpoint, &plan).await;
        let writer = responder.reply_streaming_with(None, beside_response(number, metadata));
        let mut writer = match writer {
            Ok(writer) => writer,
            Err(error) => return self.replied(number, life, Err(error)),
        };
        self.give(number, life, Given::Stream { complete: false });
        let total = plan.response_bytes();
        let upto = drop_after.unwrap_or(total).min(total);
        let mut written = 0;
        loop {
            let end = at.min(upto);
            if written < end {
                if let Err(error) = writer.send(bytes_of(number, true, written..end)).await {
                    return self.writing_failed(&plan, life, &error);
                }
                written = end;
            }
            if drop_after.is_some() && written == upto {
                return;
            }
            if stop_after.is_some() && at >= total {
                self.ledger.borrow_mut().stops_reading(number);
                drop(reader);
                break;
            }
            match self.read_piece(&plan, &mut reader, &mut at).await {
                Ok(true) => self.sleep(gap_ns).await,
                Ok(false) => break,
                Err(error) => return self.reading_failed(&plan, life, &error),
            }
        }
        self.finish_response(number, life, writer);
    }

    fn reading_failed(&self, plan: &Call, life: Life, error: &StreamError) {
        let excused = match error {
            StreamError::Cancelled { .. } => {
                self.ledger.borrow().may_be_cancelled(plan.number, life)
            }
            StreamError::Call(error) => {
                let closes = self.ledger.borrow_mut().life(life).closing_ns.is_some();
                matches!(error.kind(), CallErrorKind::Closed) && closes
            }
            StreamError::TooLong { .. } => self.ledger.borrow().outgrows(plan, life),
            _ => false,
        };
        if !excused {
            self.violation("cancelled", format!("reading call {}: {error}", plan.number));
        }
        self.give(plan.number, life, Given::Dropped);
    }

    /// What a handler does before it answers.
    async fn prepare(&self, life: Life, endpoint: Endpoint, plan: &Call) {
        if let Some(before) = &plan.before {
            Box::pin(self.call(life, endpoint, *before.clone())).await;
        } else {
            drop(endpoint);
        }
        if !matches!(plan.answer, Answer::WaitCancelled { .. }) {
            self.sleep(plan.work_ns).await;
        }
    }

    async fn handle(&self, life: Life, endpoint: Endpoint, plan: Call, mut responder: Responder) {
        let number = plan.number;
        self.prepare(life, endpoint, &plan).await;
        if matches!(plan.answer, Answer::WaitCancelled { .. }) {
            let until_ns = self.now_ns() + plan.work_ns;
            let cancelled = first(responder.cancelled(), self.spawner.sleep(plan.work_ns)).await;
            if cancelled.is_ok() && plan.work_ns > 0 && self.now_ns() == until_ns {
                self.ledger.borrow_mut().woken_late(number);
            }
        }
        match plan.answer {
            Answer::Reply { bytes, metadata } => {
                let body = Message::from(bytes_of(number, true, 0..bytes));
                let body = body.with_metadata(beside_response(number, metadata));
                let replied = responder.reply(body).await;
                self.replied(number, life, replied);
            }
            Answer::WaitCancelled { bytes } => {
                let replied = responder.reply(bytes_of(number, true, 0..bytes)).await;
                self.replied(number, life, replied);
            }
            Answer::Abandon { bytes } => {
                let reply = responder.reply(bytes_of(number, true, 0..bytes));
                match once(reply).await {
                    Some(replied) => self.replied(number, life, replied),
                    None => self.give(number, life, Given::Dropped),
                }
            }
            Answer::Reject { code, text } => {
                self.give(number, life, Given::Rejected);
                responder.reject(code, text_of(number, text));
            }
            Answer::Drop => {
                self.give(number, life, Given::Dropped);
                drop(responder);
            }
            Answer::Stream { bytes, open, piece, gap_ns, drop_after } => {
                match responder.reply_streaming((!open).then_some(bytes)) {
                    Ok(writer) => {
                        self.write_response(&plan, life, writer, (piece, gap_ns, drop_after)).await;
                    }
                    Err(error) => self.replied(number, life, Err(error)),
                }
            }
            Answer::Transform { gap_ns, drop_after, metadata, .. } => {
                let beside = beside_response(number, metadata);
                match responder.reply_streaming_with(None, beside) {
                    Ok(writer) => {
                        self.write_response(&plan, life, writer, (10_000, gap_ns, drop_after))
                            .await;
                    }
                    Err(error) => self.replied(number, life, Err(error)),
                }
            }
        }
    }

    async fn write_response(
        &self,
        plan: &Call,
        life: Life,
        mut writer: BodyWriter,
        (piece, gap_ns, drop_after): (u32, u64, Option<u32>),
    ) {
        let number = plan.number;
        let bytes = plan.response_bytes();
        let upto = drop_after.unwrap_or(bytes).min(bytes);
        let mut at = 0;
        self.give(number, life, Given::Stream { complete: writer.missing_bytes() == Some(0) });
        while at < upto {
            let end = (at + piece.max(1)).min(upto);
            if let Err(error) = writer.send(bytes_of(number, true, at..end)).await {
                return self.writing_failed(plan, life, &error);
            }
            at = end;
            if writer.missing_bytes() == Some(0) {
                self.give(number, life, Given::Stream { complete: true });
            } else {
                self.sleep(gap_ns).await;
            }
        }
        let is_whole = match writer.missing_bytes() {
            Some(missing_bytes) => missing_bytes == 0,
            None => drop_after.is_none(),
        };
        if is_whole {
            self.finish_response(number, life, writer);
        }
    }

    fn finish_response(&self, number: u32, life: Life, writer: BodyWriter) {
        self.give(number, life, Given::Stream { complete: true });
        if let Err(error) = writer.finish() {
            self.violation("finish", format!("all of {number} was written: {error}"));
        }
    }

    fn writing_failed(&self, plan: &Call, life: Life, error: &StreamError) {
        let ledger = self.ledger.borrow();
        // A response for which there is no room is given up.
        let too_much = ledger.may_be_too_much(plan.number, life);
        let excused = match error {
            StreamError::Cancelled { .. } | StreamError::Call(_) => {
                too_much || ledger.may_be_cancelled(plan.number, life)
            }
            StreamError::TooLong { .. } => plan.answer.is_open() && too_much,
            _ => false,
        };
        drop(ledger);
        if !excused {
            self.violation("cancelled", format!("writing to call {}: {error}", plan.number));
        }
    }

    fn replied(&self, call: u32, life: Life, replied: Result<(), ReplyError>) {
        let Err(error) = replied else { return self.give(call, life, Given::Reply) };
        let excused = match error {
            ReplyError::Cancelled { .. } => self.ledger.borrow().may_be_cancelled(call, life),
            ReplyError::Closed => self.ledger.borrow_mut().life(life).closing_ns.is_some(),
            ReplyError::TooLong { .. } | ReplyError::NoRoom { .. } => {
                self.ledger.borrow().may_be_too_much(call, life)
            }
            _ => false,
        };
        if !excused {
            self.violation("reply", format!("call {call} at {life:?}: {error}"));
        }
        self.give(call, life, Given::Dropped);
    }

    // The end of endpoints.

    /// Drains an endpoint, or closes it, and looks whether it is closed then.
    pub(crate) async fn drain(
        &self,
        life: Life,
        endpoint: Endpoint,
        within_ns: Option<u64>,
        linger_ns: u64,
    ) {
        let began_ns = self.now_ns();
        let most_ns = within_ns.unwrap_or(linger_ns);
        self.ledger.borrow_mut().stops(life, true, began_ns);
        self.ledger.borrow_mut().closes_within(life, began_ns, most_ns);
        let unanswered = match within_ns {
            Some(within_ns) => endpoint.drain(Duration::from_nanos(within_ns)).await,
            None => endpoint.close().await,
        };
        let now_ns = self.now_ns();
        self.ledger.borrow_mut().closed(life, now_ns, (began_ns, most_ns), unanswered);
        let streams = once(endpoint.accept_streaming()).await;
        let closed = matches!(streams, Some(Err(AcceptError::Closed | AcceptError::NotServing)));
        if !closed {
            self.violation("open after closing", format!("{life:?} accepts: {streams:?}"));
        }
        match once(endpoint.call(address_of(Some(0)), "late")).await {
            Some(Err(error)) if *error.kind() == CallErrorKind::Closed => {}
            other => self.violation("open after closing", format!("{life:?} calls: {other:?}")),
        }
    }
}

/// What goes beside the body of a request.
fn beside(plan: &Call) -> Vec<(&'static str, Vec<u8>)> {
    let mut beside = Vec::new();
    if plan.metadata.is_some() || plan.bytes < 4 {
        beside.push(("n", plan.number.to_be_bytes().to_vec()));
    }
    if let Some(length) = plan.metadata {
        beside.push(("v", value_of(plan.number, length)));
    }
    beside
}

/// What goes beside the body of a response.
fn beside_response(call: u32, metadata: bool) -> Metadata {
    match metadata {
        true => Metadata::new().with("r", value_of(call, 100)),
        false => Metadata::new(),
    }
}

fn number_in(metadata: &Metadata) -> Option<u32> {
    number_of(metadata.get("n")?)
}

fn number_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
