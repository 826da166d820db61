//! Calls that go both ways at once: two RPCs that share everything but their direction.

use std::sync::Arc;
use std::time::Duration;

use homa_core::RequestOptions;
use homa_virtual::LinkPlan;

use super::{Net, STEP_NS};
use crate::shared::frame::{Frame, Leg};
use crate::shared::ops::Operation;
use crate::shared::rpc::{Role, Rpc, RpcState};
use crate::shared::{Content, Handle};
use crate::{CallErrorKind, EndpointBuilder};

/// Steps in which everything has happened that happens at once.
const SOON: u64 = 50;
/// Silence after which a peer counts as gone, and an RPC without its partner as lone.
const TIMEOUT: Duration = Duration::from_millis(200);

fn open(net: &mut Net, host: u8, serve: bool) -> Handle {
    net.open_with(host, serve, |builder| quick(builder).streaming_requests(true))
}

fn quick(builder: EndpointBuilder) -> EndpointBuilder {
    let config = builder.config.clone().with(|config| config.recovery.timeout = TIMEOUT);
    builder.config(config)
}

/// Begins one RPC of a call, by its name.
fn half(client: &Handle, server: &Handle, leg: Leg, pair: u64) -> Arc<Rpc> {
    let rpc = Rpc::new(server.local_addr(), Role::Client, RpcState::default());
    let content = match leg {
        Leg::Download => Content::Download(pair),
        Leg::Upload => {
            let leg = Some((leg, pair));
            Content::Announced(None, Box::new(Frame { open: true, leg, ..Frame::default() }))
        }
    };
    let start = Operation::Start(Arc::clone(&rpc), content, RequestOptions::default());
    client.submit(start);
    rpc
}

fn failed(rpc: &Rpc) -> Option<CallErrorKind> {
    rpc.lock().failed.as_ref().map(|error| error.kind().clone())
}

#[test]
fn a_half_whose_partner_never_comes_is_refused_although_nothing_else_comes() {
    for leg in [Leg::Upload, Leg::Download] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
        let lone = half(&client, &server, leg, 7);
        net.pass(SOON, &[&client, &server]);
        assert_eq!(failed(&lone), None);
        let due_ns = net.world.now_ns() + TIMEOUT.as_nanos() as u64;
        assert!(server.seat.deadline_ns() <= due_ns, "whoever drives wakes up for it");
        let steps = TIMEOUT.as_nanos() as u64 / STEP_NS;
        net.pass(steps, &[&client, &server]);
        assert_eq!(failed(&lone), Some(CallErrorKind::Overloaded), "{leg:?}");
    }
}
