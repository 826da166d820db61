//! Worlds with one purpose each: a host whose peers are played ([`Script`]), with numbers that are
//! drawn. What they ask for holds for all numbers.

mod acks;
mod calls;
mod grants;
mod memory;
mod once;
mod receive;

use homa_virtual::Dice;

use super::script::Script;

/// Plays one and returns it for what holds at the end of every world.
type Drill = fn(&mut Dice) -> Script;

/// Each with its name. Which seed plays which depends on the order.
macro_rules! drills {
    ($($area:ident::$drill:ident,)*) => {
        &[$((concat!(stringify!($area), "::", stringify!($drill)), $area::$drill),)*]
    };
}

const ALL: &[(&str, Drill)] = drills![
    acks::exactly_what_is_acknowledged_ends,
    acks::responses_are_acknowledged,
    acks::refusals_until_acknowledged,
    acks::words_alone_keep_nothing,
    acks::who_waits_is_asked_soon,
    once::late_duplicates_are_recognised,
    once::a_pause_makes_no_duplicate_too_old,
    once::what_is_remembered_is_limited,
    once::what_is_over_was_seen,
    once::another_incarnation_of_the_server,
    once::what_may_be_in_service_is_not_repeated,
    receive::bytes_in_any_order,
    receive::what_is_not_taken_is_refused,
    receive::unvalidated_hosts_draw_little,
    receive::few_answers_to_what_is_unknown,
    receive::nobody_speaks_for_others,
    receive::whoever_closes_says_so,
    receive::places_are_limited,
    receive::gaps_are_limited,
    calls::room_at_a_server,
    calls::what_is_missed_is_sent_again,
    calls::everything_is_sent_again_once,
    calls::calls_wait_for_who_answers,
    calls::whoever_does_not_answer_is_given_up,
    calls::servers_are_told_of_cancelled_calls,
    calls::requests_that_stop_are_given_up,
    calls::a_server_that_starts_anew_is_believed,
    calls::all_calls_are_checked_when_one_is_lost,
    calls::silence_is_judged_when_all_is_read,
    calls::always_late_is_no_excuse,
    calls::a_path_that_carries_full_packets_is_no_black_hole,
    calls::responses_wait_for_who_takes_them,
    calls::resends_for_nothing_keep_nothing,
    calls::a_granted_call_is_watched_again,
    grants::windows_and_places,
    grants::the_shortest_goes_first,
    grants::priorities_follow_what_is_left,
    grants::places_are_shared_by_hosts,
    grants::the_oldest_has_a_share,
    grants::silent_senders_leave_their_places,
    grants::who_waits_behind_others_is_excused,
    grants::unvalidated_clients_are_behind_all_others,
    grants::readers_hold_their_senders_back,
    grants::no_host_is_granted_everything,
    grants::resends_fit_what_may_come,
    grants::long_packets_are_forgotten,
    memory::who_waits_for_memory_is_asked_at_once,
    memory::without_memory_nobody_is_asked,
    memory::announcements_leave_memory_to_others,
    memory::no_host_takes_all_memory,
    memory::the_host_with_most_unacknowledged_bytes_gives_way,
    memory::unvalidated_clients_keep_nobody_out,
    calls::who_has_nothing_yet_says_so,
    calls::a_driver_without_room_is_left_alone,
    calls::what_the_network_says_is_believed,
    calls::others_are_no_sign_of_life,
    receive::a_proved_client_is_itself,
    receive::an_unvalidated_client_is_asked_to_prove_itself,
    grants::however_little_may_come_it_comes,
    grants::room_that_is_left_is_given_to_others,
];

/// Plays the drill with this number.
pub(super) fn play(number: u64, seed: u64) -> Script {
    let (_, drill) = ALL[(number % ALL.len() as u64) as usize];
    drill(&mut Dice::new(seed ^ 0x0064_7269_6C6C))
}

/// The name of the drill with this number.
pub(super) fn name(number: u64) -> &'static str {
    ALL[(number % ALL.len() as u64) as usize].0
}
