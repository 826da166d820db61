//! Calls to make in a world.

use crate::dice::Dice;

/// Action of the server on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// It answers after a time.
    After {
        /// Time of service in ns.
        service_ns: u64,
    },
    /// It answers after a time and supplies the body piece by piece.
    InPieces {
        /// Time of service, and between pieces, in ns.
        service_ns: u64,
        /// Bytes of a piece.
        piece_bytes: u32,
    },
    /// It drops the request.
    Rejected,
    /// It refuses the request, and says that it has not executed it.
    NotExecuted,
    /// It forgets the request, and drops it after three seconds.
    Never,
}

/// How a message is written whose length nobody knows in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes {
    /// Most bytes of a write: at least 1 and up to so many are written at a time.
    pub bytes_max: u32,
    /// Longest time between two writes, in ns.
    pub gap_max_ns: u64,
}

impl Writes {
    /// Bytes of the write that begins at `from`, and the time to the next in ns.
    pub(crate) fn at(self, from: u32, call: usize) -> (u32, u64) {
        let mut dice = Dice::new(u64::from(from) << 32 ^ call as u64);
        let bytes = 1 + dice.roll() % u64::from(self.bytes_max.max(1));
        (bytes as u32, dice.roll() % (self.gap_max_ns + 1))
    }
}

/// A call to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPlan {
    /// When, in ns.
    pub at_ns: u64,
    /// Calling host.
    pub client: usize,
    /// Called host.
    pub server: usize,
    /// Length of the request; raised to 2 for calls from number 256 on, and 3 from 65,536 on,
    /// because a request carries its number.
    pub request_bytes: u32,
    /// Length of the response.
    pub response_bytes: u32,
    /// Action of the server.
    pub response: Response,
    /// The client supplies the request in pieces of this many bytes, one every 10 µs.
    pub request_piece_bytes: Option<u32>,
    /// The client reads the response as it arrives.
    pub read_as_stream: bool,
    /// The call fails after this time in ns.
    pub deadline_ns: Option<u64>,
    /// The client gives up after this time in ns.
    pub abort_after_ns: Option<u64>,
    /// Request and response are marked as beginning with a frame.
    pub framed: bool,
    /// Request and response are open, and written so, instead of as said above.
    pub open: Option<Writes>,
}

impl CallPlan {
    /// A call at once, answered at once.
    pub const fn new(
        client: usize,
        server: usize,
        request_bytes: u32,
        response_bytes: u32,
    ) -> Self {
        Self {
            at_ns: 0,
            client,
            server,
            request_bytes,
            response_bytes,
            response: Response::After { service_ns: 0 },
            request_piece_bytes: None,
            read_as_stream: false,
            deadline_ns: None,
            abort_after_ns: None,
            framed: false,
            open: None,
        }
    }
}
