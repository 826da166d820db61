//! A network that loses nothing, loaded with messages of all lengths: long ones wait for short
//! ones, at their senders and in the ports, for longer than a resend interval. That is no loss.

use homa_core::Stats;
use homa_virtual::{CallEnd, CallPlan, Dice, HostPlan, PortPlan, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const HOSTS: usize = 6;
const LINK_MBPS: u32 = 10_000;

/// Hosts on links of 10 Gbit/s, whose ports hold whatever comes.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    for number in 1..=HOSTS {
        let mut plan = HostPlan::new(number as u8);
        plan.uplink_mbps = Some(LINK_MBPS);
        plan.port = PortPlan { mbps: Some(LINK_MBPS), buffer_bytes: 64 << 20 };
        plan.rx_buffer_bytes = 64 << 20;
        plan.config.output.link_mbps = Some(LINK_MBPS);
        plan.config.limits.max_message_bytes = 16 << 20;
        world.add_host(plan);
    }
    world.default_link.delay_ns = 2_000;
    world
}

/// One to 16 MB; most messages are short and most bytes in long ones.
fn length(dice: &mut Dice) -> u32 {
    let scale = dice.below(16);
    let least = 300 << scale;
    (least + dice.below(least)).min(16 << 20) as u32
}

/// Has requests from everybody to everybody arrive for `ms` milliseconds that take so much of the
/// links, in percent.
fn load(world: &mut World, seed: u64, ms: u64, percent: u64) {
    let mut dice = Dice::new(seed);
    for client in 0..HOSTS {
        let mut at_ns = 0;
        while at_ns < ms * MS {
            let bytes = length(&mut dice);
            let server = (client + 1 + dice.below(HOSTS as u64 - 1) as usize) % HOSTS;
            world.call(CallPlan { at_ns, ..CallPlan::new(client, server, bytes, 100) });
            // So that the link would be busy for `percent` of the time until the next comes, on
            // average.
            let busy_ns = u64::from(bytes) * 8_000 / u64::from(LINK_MBPS);
            at_ns += busy_ns * 2 * dice.below(100) / percent;
        }
    }
}

fn total(world: &World, counter: fn(&Stats) -> u64) -> u64 {
    (0..HOSTS).flat_map(|host| world.stats(host)).map(|stats| counter(&stats)).sum()
}

#[test]
fn a_sender_of_many_messages_sends_nothing_again() {
    let mut world = world(7);
    // 20 MB from one host: 16 ms of its link, the longest message last.
    for (number, megabytes) in (1..=5).enumerate() {
        let server = 1 + number % (HOSTS - 1);
        world.call(CallPlan::new(0, server, megabytes * 1_000_000, 100));
        world.call(CallPlan::new(0, server, megabytes * 300_000, 100));
    }
    for number in 0..2_000 {
        let server = 1 + number % (HOSTS - 1);
        let at_ns = number as u64 * 12_000;
        world.call(CallPlan { at_ns, ..CallPlan::new(0, server, 5_000, 100) });
    }
    assert!(world.run_calls(60 * SECOND), "calls have not ended");
    assert!(world.ledger.calls.iter().all(|call| call.end == Some(CallEnd::Answered)));
    assert_eq!(total(&world, |stats| stats.bytes_retransmitted), 0);
}

#[test]
fn in_a_crowded_network_little_is_sent_again_however_long_messages_wait() {
    let seeds = if cfg!(debug_assertions) { 1 } else { 3 };
    for seed in 1..=seeds {
        let mut world = world(seed);
        load(&mut world, seed, 60, 90);
        assert!(world.run_calls(60 * SECOND), "calls have not ended");
        assert!(world.ledger.calls.iter().all(|call| call.end == Some(CallEnd::Answered)));
        let again = total(&world, |stats| stats.bytes_retransmitted);
        let sent = total(&world, |stats| stats.bytes_sent);
        let asked = total(&world, |stats| {
            stats.resends_gap_sent + stats.resends_tail_sent + stats.resends_all_sent
        });
        println!("seed {seed}: {again} of {sent} bytes, asked {asked} times");
        assert!(again <= sent / 30_000, "seed {seed}: {again} of {sent} bytes again");
    }
}
