//! What the application is told of an RPC in short form.

use super::Stage;
use crate::engine::peer::PeerTable;
use crate::engine::rpc::RpcTable;
use crate::engine::rpc::index::RpcIndex;
use crate::event::Event;

impl RpcTable {
    /// The event of an RPC in short form that waited in the queue. One that is over leaves the
    /// table.
    #[inline(always)]
    pub(crate) fn tell_short(&mut self, index: RpcIndex, peers: &PeerTable) -> Option<Event> {
        let (rpc, short) = self.keyed_short(index)?;
        short.queued = false;
        let (length, framed, open) = (short.rx_length, short.is_framed(), false);
        match short.stage {
            Stage::InService => {
                let path = peers.known(short.peer)?.path;
                Some(Event::RequestWhole { rpc, length, framed, open, path })
            }
            Stage::Delivered => {
                let (cookie, released_upto) = (short.cookie, short.outgoing.length);
                Some(Event::ResponseWhole { rpc, length, framed, open, cookie, released_upto })
            }
            Stage::Over => {
                let released_upto = short.outgoing.length;
                self.remove(index);
                Some(Event::ResponseDelivered { rpc, released_upto })
            }
            Stage::Ready | Stage::Sent => None,
        }
    }
}
