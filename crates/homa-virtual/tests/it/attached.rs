//! A host of which somebody else takes the turns.

use homa_core::{
    Carriage, Config, Engine, Event, HostBudget, Instant, Path, PortOptions, RequestOptions,
};
use homa_io::driver::Driver;
use homa_io::{Message, Shard, ShardView};
use homa_virtual::{CallPlan, HostPlan, LinkPlan, MtuChange, Pattern, World};

const SECOND: u64 = 1_000_000_000;
const STEP_NS: u64 = 10_000;

#[test]
fn a_shard_of_the_callers_own_calls_a_host_of_the_world_over_its_links() {
    let mut world = World::with_hosts(1, 1, |_| {});
    world.default_link =
        LinkPlan { loss_ppm: 50_000, too_big_is_told: false, ..LinkPlan::default() };
    let (client, driver) = world.attach(HostPlan::new(9));
    world.change_mtu(0, MtuChange { from: client, to: 0, mtu: 1300, known: true });
    let plan = CallPlan::new(client, 0, 200_000, 300_000);
    let call = world.call_of_remote(plan) as u32;

    let port = driver.local_addr().port();
    let mut engine = Engine::new(Config::default(), HostBudget::local(), 1).expect("valid");
    engine.bind_port(port, PortOptions::CLIENT).expect("a new engine has no ports");
    let mut shard = Shard::new(engine, driver);
    let path = Path {
        remote: HostPlan::new(1).address,
        local_ip: None,
        local_port: port,
        interface: 0,
        carriage: Carriage::Udp,
    };
    let request = Pattern::request(call, plan.request_bytes).body();
    let now = |world: &World| Instant::from_nanos(1 + world.now_ns());
    world.run_until(STEP_NS);
    let mut view = shard.view(now(&world));
    view.send_request(path, request, 7, RequestOptions::default()).expect("room");

    let mut response: Option<Message> = None;
    while response.is_none() && world.now_ns() < 10 * SECOND {
        let mut take = |event: Event, shard: &mut ShardView<'_>| {
            if let Event::ResponseArrived { rpc, .. } = event {
                response = shard.take(rpc);
            }
        };
        let _ = shard.turn(now(&world), &mut take).expect("virtual drivers do not break");
        world.run_until(world.now_ns() + STEP_NS);
    }
    let response = response.expect("an answer");
    assert_eq!(response.len(), plan.response_bytes as usize);
    assert!(Pattern::response(call, plan.response_bytes).matches(0, &response));
    assert!(shard.stats().bytes_retransmitted > 0, "something was lost");
    assert_eq!(shard.driver_mut().path(path.remote).0, Some(1300));
    assert_eq!(world.ledger.violations, [""; 0]);
    assert_eq!(world.auditor.violations, [""; 0]);
}

#[test]
fn what_overflows_the_buffer_of_an_attached_host_is_counted() {
    let mut world = World::new(1);
    let small_truesize = 832;
    let plan = HostPlan { rx_buffer_bytes: 3 * small_truesize, ..HostPlan::new(9) };
    let (host, driver) = world.attach(plan);
    for _ in 0..5 {
        world.inject(0, HostPlan::new(1).address, host, vec![0; 100]);
    }
    world.run_until(STEP_NS);
    assert_eq!((world.rx_dropped(host), driver.rx_dropped()), (2, 2));
}

#[test]
#[should_panic(expected = "host 0 has no engine that the world turns")]
fn a_world_does_not_restart_an_attached_host() {
    let mut world = World::new(1);
    let (host, _) = world.attach(HostPlan::new(9));
    world.restart(host, 0, STEP_NS);
}

#[test]
fn an_attached_host_begins_again_with_a_driver_that_lacks_what_came_before() {
    let mut world = World::new(1);
    let (host, first) = world.attach(HostPlan::new(9));
    let from = HostPlan::new(1).address;
    world.inject(0, from, host, vec![0; 100]);
    world.inject(2 * STEP_NS, from, host, vec![0; 100]);
    world.inject(4 * STEP_NS, from, host, vec![0; 100]);
    world.run_until(STEP_NS);
    assert_eq!(world.next_ns(), Some(2 * STEP_NS));
    world.detach(host);
    world.run_until(3 * STEP_NS);
    let second = world.attach_again(host);
    assert!(first.has_received() && !second.has_received());
    world.run_until(4 * STEP_NS);
    assert!(second.has_received());
    let arrived_ns = world.next_ns();
    world.run_until(5 * STEP_NS);
    assert!(arrived_ns.is_none_or(|at_ns| at_ns <= 5 * STEP_NS));
    assert_eq!(world.next_ns(), None);
}
