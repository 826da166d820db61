//! What is sent, what it is answered with, and what an answer must be.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use homa_bench::{
    pair::CPU_REQUEST,
    spec::{HostSpec, Reply},
};
use homa_sys::process_cpu_time_ns;
use tokio::sync::Mutex;

/// The messages of a host, as client and as server.
#[derive(Debug, Clone)]
pub struct Messages {
    payload: Bytes,
    reply: Reply,
    service: Duration,
    /// A slow server serves one request after the other.
    turn: Arc<Mutex<()>>,
}

impl Messages {
    /// The messages that a specification asks for.
    pub fn new(spec: &HostSpec) -> Self {
        let payload: Vec<u8> = (0..spec.message_bytes_max).map(pattern).collect();
        Messages {
            payload: payload.into(),
            reply: spec.reply,
            service: Duration::from_micros(spec.service_us),
            turn: Arc::default(),
        }
    }

    /// Length of the longest, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.payload.len()
    }

    /// A request of this length, but at most of the longest.
    pub fn request(&self, bytes: usize) -> Bytes {
        self.payload.slice(..bytes.min(self.payload.len()))
    }

    /// Bytes of the answer to a request of `bytes`.
    pub fn answer_bytes(&self, bytes: usize) -> usize {
        let answer = self.reply.bytes(bytes.min(self.payload.len()) as u64);
        usize::try_from(answer).unwrap_or(usize::MAX).min(self.payload.len())
    }

    /// The answer to a request, after the time that the server takes for it: an echo is of the
    /// bytes that came. [`CPU_REQUEST`] is answered as its name says.
    pub async fn answer(&self, request: Bytes) -> Bytes {
        if request[..] == CPU_REQUEST {
            return Bytes::copy_from_slice(&process_cpu_time_ns().to_le_bytes());
        }
        if !self.service.is_zero() {
            let _turn = self.turn.lock().await;
            tokio::time::sleep(self.service).await;
        }
        match self.reply {
            Reply::Echo => request,
            Reply::Bytes(_) => self.payload.slice(..self.answer_bytes(request.len())),
        }
    }

    /// Whether this is the answer to a request of `bytes`: by its length, and in programs built
    /// without optimisation by each byte, which would cost time that the other transports do not
    /// spend.
    pub fn is_answer(&self, bytes: usize, answer: &[u8]) -> bool {
        let expected = &self.payload[..self.answer_bytes(bytes)];
        answer.len() == expected.len() && (!cfg!(debug_assertions) || answer == expected)
    }
}

/// The answer to [`CPU_REQUEST`], in nanoseconds.
///
/// # Errors
/// It is none.
pub fn cpu_ns(answer: &[u8]) -> io::Result<u64> {
    let ns = answer.try_into().map(u64::from_le_bytes);
    ns.map_err(|_| io::Error::other("the server does not tell its processor time"))
}

/// Differs from its neighbours and between blocks, so that lost, repeated and exchanged pieces
/// show.
fn pattern(index: u32) -> u8 {
    (index.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

#[cfg(test)]
mod tests {
    use homa_bench::{
        settings::{self, LinkFacts},
        transport::Transport,
        workload::Workload,
    };

    use super::*;

    fn messages(reply: Reply) -> Messages {
        let link = LinkFacts { rate_mbps: 100, rtt_us: 100.0, timer_us: 10.0, mtu_bytes: 1_500 };
        Messages::new(&HostSpec {
            host: 0,
            listen: [127, 0, 0, 1].into(),
            port: 0,
            transport: Transport::Quic { connections: 1 },
            homa: settings::derive(&link, &Workload::load("w2").unwrap(), 100_000),
            reply,
            message_bytes_max: 100_000,
            service_us: 0,
        })
    }

    fn answer(messages: &Messages, request: Bytes) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(messages.answer(request))
    }

    #[test]
    fn an_answer_is_known_by_its_length_and_its_bytes() {
        for (reply, expected) in [(Reply::Echo, 70_000), (Reply::Bytes(100), 100)] {
            let messages = messages(reply);
            let answer = answer(&messages, messages.request(70_000)).to_vec();
            assert_eq!(answer.len(), expected);
            assert!(messages.is_answer(70_000, &answer));
            assert!(!messages.is_answer(70_000, &answer[1..]));
            let mut exchanged = answer.clone();
            exchanged.rotate_left(40);
            assert!(!messages.is_answer(70_000, &exchanged));
        }
    }

    #[test]
    fn a_server_tells_its_processor_time_whatever_it_answers_else() {
        for reply in [Reply::Echo, Reply::Bytes(100)] {
            let answer = answer(&messages(reply), Bytes::from_static(&CPU_REQUEST));
            assert!(cpu_ns(&answer).unwrap() > 0);
            assert!(cpu_ns(b"echo").is_err());
        }
    }

    #[test]
    fn no_message_is_longer_than_the_longest() {
        let messages = messages(Reply::Bytes(u32::MAX));
        assert_eq!(messages.request(usize::MAX).len(), 100_000);
        assert_eq!(answer(&messages, messages.request(1)).len(), 100_000);
    }
}
