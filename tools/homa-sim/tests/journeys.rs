//! Where the time of messages went.

use std::ops::ControlFlow;

use homa_sim::{
    MessageId, Run,
    reproduce::sigcomm18::{self, Messages, Pacing, Profile},
};

fn run() -> Run {
    let messages = Messages::published("w4").unwrap();
    let config = Profile::Paper.config(&messages, Pacing::Nic);
    sigcomm18::run(messages.sizes, config, 2, 0.8, 1_000, 1)
}

#[test]
fn the_parts_of_a_messages_time_add_up_and_to_follow_it_changes_nothing() {
    let first = run().run(|_| ControlFlow::Continue(())).unwrap().unwrap();
    let slowest: Vec<_> = first.samples.slowest(u32::MAX, 50);
    let names: Vec<_> = slowest.iter().map(|sample| MessageId(sample.index)).collect();
    let again = run().explain(&names, |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((&first.samples, first.counts), (&again.samples, again.counts));
    assert_eq!(again.journeys.len(), names.len());
    let mut sum = [0; 4];
    for (name, journey) in &again.journeys {
        let message = &again.messages[name.0 as usize];
        let queues: u64 = journey.queues.iter().map(|(_, time)| time.as_ps()).sum();
        let parts = [journey.others, journey.grants, journey.sending, journey.way];
        let all = queues + parts.iter().map(|part| part.as_ps()).sum::<u64>();
        assert_eq!(all, message.ended.since(message.begun).as_ps(), "{journey:?}");
        for (sum, part) in sum.iter_mut().zip([parts[0], parts[1], journey.way]) {
            *sum += part.as_ps();
        }
        sum[3] += queues;
    }
    // Under load the slowest have met all of it.
    assert!(sum.iter().all(|sum| *sum > 0), "{sum:?}");
}
