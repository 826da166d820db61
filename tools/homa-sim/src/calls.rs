//! Calls: which messages are responses, and to which requests.

use std::collections::HashMap;

use crate::event::MessageId;

/// The calls of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Requests, in the order of their begin.
    requests: Vec<MessageId>,
    /// Lengths of the responses to requests that have not arrived.
    wanted: HashMap<MessageId, u32>,
    /// Responses that have begun, by their requests.
    responses: HashMap<MessageId, MessageId>,
}

impl Calls {
    /// A request begins, to which a response of so many bytes belongs.
    pub(crate) fn begin(&mut self, request: MessageId, response_bytes: u32) {
        self.requests.push(request);
        self.wanted.insert(request, response_bytes);
    }

    /// The length of the response to a message that has arrived, if that is a request.
    pub(crate) fn asked(&mut self, message: MessageId) -> Option<u32> {
        self.wanted.remove(&message)
    }

    /// The response to a request begins.
    pub(crate) fn respond(&mut self, request: MessageId, response: MessageId) {
        self.responses.insert(request, response);
    }

    /// Requests, in the order of their begin.
    pub(crate) fn requests(&self) -> &[MessageId] {
        &self.requests
    }

    /// The response to a request, if it has begun.
    pub(crate) fn response(&self, request: MessageId) -> Option<MessageId> {
        self.responses.get(&request).copied()
    }
}
