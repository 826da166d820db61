//! Where an RPC stands, and what may follow (docs/spec/protocol.md §3).

use crate::event::FailReason;

/// Which end of the RPC this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// The states of both machines. Sending and receiving a message are the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Sending: the request (client) or the response (server).
    Outgoing,
    /// Receiving: the response (client) or the request (server).
    Incoming,
    /// Server: the application works on the request.
    InService,
    /// Server: refused; the client is told until it acknowledges.
    Refused(FailReason),
    /// Client: the response is complete, the application has not taken all of it.
    Delivered,
    /// Over; only events remain to be handed out.
    Dead,
}

impl State {
    /// The state in which an RPC begins.
    pub(crate) const fn first(role: Role) -> Self {
        match role {
            Role::Client => Self::Outgoing,
            Role::Server => Self::Incoming,
        }
    }

    /// Whether an RPC of this role may go from this state to `next` in one step.
    #[cfg(any(test, feature = "check"))]
    pub(crate) const fn leads_to(self, next: Self, role: Role) -> bool {
        match (role, self, next) {
            (_, Self::Dead, _) => false,
            (_, _, Self::Dead) => true,
            (Role::Client, Self::Outgoing, Self::Incoming)
            | (Role::Client, Self::Incoming, Self::Delivered)
            | (Role::Server, Self::Incoming, Self::InService)
            | (Role::Server, Self::InService, Self::Outgoing)
            | (Role::Server, Self::Incoming | Self::InService, Self::Refused(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    const REFUSED: State = State::Refused(FailReason::Rejected);
    const ALL: [(State, &str); 6] = [
        (State::Outgoing, "OUTGOING"),
        (State::Incoming, "INCOMING"),
        (State::InService, "IN_SERVICE"),
        (REFUSED, "REFUSED"),
        (State::Delivered, "DELIVERED"),
        (State::Dead, "DEAD"),
    ];

    /// The rows of the table of transitions, end, from, to; `None` in a package, which has no page.
    fn documented() -> Option<Vec<(String, String, String)>> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = std::fs::read_to_string(root.join("docs/spec/protocol.md")).ok()?;
        let begin = page.find("| end | from | to | when |").expect("the table of transitions");
        let rows = page[begin..].lines().skip(2).take_while(|line| line.starts_with('|'));
        let cell = |row: &str, number: usize| row.split('|').nth(number).unwrap().trim().to_owned();
        Some(rows.map(|row| (cell(row, 1), cell(row, 2), cell(row, 3))).collect())
    }

    #[test]
    fn the_specification_has_exactly_the_transitions_that_are_possible() {
        let Some(mut documented) = documented() else {
            std::eprintln!("SKIPPED: docs/spec/protocol.md is not here");
            return;
        };
        let mut possible = Vec::new();
        for (role, end) in [(Role::Client, "client"), (Role::Server, "server")] {
            let leads = |from: State, to: State| from != to && from.leads_to(to, role);
            // The others are states of the other end alone.
            let entered = |state: State| {
                state == State::first(role) || ALL.iter().any(|(from, _)| leads(*from, state))
            };
            for (from, from_name) in ALL.into_iter().filter(|(from, _)| entered(*from)) {
                for (_, to_name) in ALL.into_iter().filter(|(to, _)| leads(from, *to)) {
                    possible.push((end.to_owned(), from_name.to_owned(), to_name.to_owned()));
                }
            }
        }
        possible.sort();
        documented.sort();
        assert_eq!(documented, possible);
    }
}
