//! The promise holds in every state of the model, and breaks where the ends do less than they must.

use homa_model::{Rules, Scope, Stopped};
use stateright::{Checker, HasDiscoveries, Model};

const ONE_LIFE: &str = "a life of the server executes a request at most once";
const NOT_REPEATED: &str = "a client has no request executed by a second life";
const ONE_EXECUTION: &str = "a response is that of one execution";
const ENDS_WITHOUT_NETWORK: &str = "every call ends if nothing arrives";
const ENDS: &str = "every call ends if everything arrives";

/// One call while one end may be stopped.
fn stops(end: Stopped) -> Scope {
    let (calls, rules) = (vec![0], Rules::default());
    Scope { calls, server_lives: 1, parts: 1, ticks: 4, packet_life: 2, stops: vec![end], rules }
}

/// One call while either end may be stopped, in less detail.
fn both_stop() -> Scope {
    let stopped = vec![Stopped::Client, Stopped::Server];
    Scope { ticks: 4, packet_life: 1, stops: stopped, ..stops(Stopped::Client) }
}

/// One call, two lives of the server.
fn server_restarts() -> Scope {
    Scope { server_lives: 2, parts: 2, ticks: 2, stops: vec![], ..stops(Stopped::Client) }
}

/// Two calls, and one of another client at the same port.
fn port_is_reused() -> Scope {
    Scope {
        calls: vec![0, 0, 1],
        parts: 1,
        ticks: 0,
        packet_life: 1,
        stops: vec![],
        ..stops(Stopped::Client)
    }
}

/// Looks at every state; none is bad.
fn holds(scope: Scope) {
    let began = std::time::Instant::now();
    let checker = scope.checker().threads(2).spawn_bfs().join();
    println!("{} states, {:?}", checker.unique_state_count(), began.elapsed());
    checker.assert_properties();
}

/// Changes a rule; a state is bad then, in the way named.
fn breaks(scope: Scope, property: &'static str, change: impl Fn(&mut Rules)) {
    let mut scope = scope;
    change(&mut scope.rules);
    let checker = scope.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("not broken: {property}"));
    println!("{property}: {:?}", path.into_actions());
}

#[test]
fn the_promise_holds_while_either_end_is_stopped() {
    holds(both_stop());
    holds(Scope { ticks: 3, ..stops(Stopped::Client) });
    holds(Scope { ticks: 3, ..stops(Stopped::Server) });
}

#[test]
fn the_promise_holds_while_the_server_restarts() {
    holds(Scope { parts: 1, ..server_restarts() });
    holds(Scope { ticks: 1, ..server_restarts() });
}

#[test]
fn the_promise_holds_while_another_client_takes_the_port() {
    holds(port_is_reused());
    holds(Scope { calls: vec![0, 1], ticks: 1, ..port_is_reused() });
}

#[test]
fn no_second_life_executes_a_request_if_young_servers_ask() {
    let mut scope = server_restarts();
    scope.rules.young_server_asks = true;
    holds(scope);
}

#[test]
fn a_server_without_memory_executes_twice() {
    breaks(both_stop(), ONE_LIFE, |rules| rules.memory = 0);
}

#[test]
fn a_memory_of_one_packet_life_is_too_short() {
    breaks(stops(Stopped::Client), ONE_LIFE, |rules| rules.memory = 1);
}

#[test]
fn a_memory_that_ages_while_the_server_is_stopped_is_too_short() {
    breaks(both_stop(), ONE_LIFE, |rules| rules.memory_stops = false);
}

#[test]
fn a_request_must_not_be_repeated_until_the_memory_ends() {
    let scope = Scope { ticks: 5, ..stops(Stopped::Client) };
    breaks(scope, ONE_LIFE, |rules| rules.repeats_within = rules.memory);
}

#[test]
fn a_newest_request_must_not_be_believed_at_once() {
    breaks(port_is_reused(), ONE_LIFE, |rules| rules.newest_waits = false);
}

#[test]
fn a_server_must_refuse_what_was_sent_to_a_former_life() {
    breaks(server_restarts(), NOT_REPEATED, |rules| rules.refuses_other_names = false);
}

#[test]
fn a_client_must_compare_the_age_of_a_server_that_has_not_seen_its_request() {
    breaks(server_restarts(), NOT_REPEATED, |rules| rules.compares_ages = false);
}

#[test]
fn packets_of_two_lives_make_a_response_of_two_executions() {
    breaks(server_restarts(), ONE_EXECUTION, |rules| rules.tells_lives_apart = false);
}

#[test]
fn a_call_that_nobody_asks_about_waits_for_ever() {
    breaks(both_stop(), ENDS_WITHOUT_NETWORK, |rules| rules.asks_about_confirmed = false);
}

#[test]
fn a_call_whose_client_never_believes_that_it_was_forgotten_waits_for_ever() {
    breaks(both_stop(), ENDS, |rules| rules.believes_never_seen = false);
}
