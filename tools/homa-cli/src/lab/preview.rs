//! What `homa lab run --dry-run` shows: the plan as it would be carried out.

use std::{path::PathBuf, time::Duration};

use homa_lab::{LabSpec, calibrate::Load};
use serde::Serialize;

use super::plan::Plan;
use crate::units::format_number;

/// A plan as it would be carried out.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    lab: LabSpec,
    /// What the switch has to carry if all links are full; the run is refused where the machine
    /// cannot.
    packets_per_s: f64,
    commands: Vec<Planned>,
    /// After this time the run is over at the latest, in milliseconds; absent if a command without
    /// a time limit is waited for.
    longest_ms: Option<u64>,
    /// Where the results go.
    out: Option<PathBuf>,
}

/// One command on one host.
#[derive(Debug, Serialize)]
struct Planned {
    host: usize,
    command: String,
    background: bool,
    starts_ms: u64,
    timeout_ms: Option<u64>,
}

impl Preview {
    /// Of a plan that was checked.
    pub(super) fn new(plan: &Plan, out: Option<PathBuf>) -> Self {
        let hosts = plan.lab.hosts as usize;
        let waited_for = || plan.commands.iter().filter(|command| !command.background);
        let ends = waited_for().map(|command| Some(command.delay_ms + command.timeout_ms?));
        let longest = ends.collect::<Option<Vec<_>>>();
        let commands = plan.commands.iter().flat_map(|command| {
            command.hosts(hosts).into_iter().map(|host| Planned {
                host,
                command: command.run.get_ref().text(),
                background: command.background,
                starts_ms: command.delay_ms,
                timeout_ms: command.timeout_ms,
            })
        });
        Self {
            packets_per_s: Load::full(&plan.lab).packets_per_s,
            commands: commands.collect(),
            longest_ms: longest.map(|ends| ends.into_iter().max().unwrap_or(0)),
            lab: plan.lab.clone(),
            out,
        }
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let Self { lab, packets_per_s, commands, longest_ms, out } = self;
        let mut text = format!(
            "Lab of {} hosts, {} Mbit/s, switch: {}; {} packets/s if all links are full. Nothing is built now.\n",
            lab.hosts,
            lab.port_mbps,
            lab.backend,
            format_number(*packets_per_s)
        );
        text.push_str(&format!("  {:<6} {:>9} {:>12}  command\n", "host", "starts", "at most"));
        for planned in commands {
            let limit = match (planned.background, planned.timeout_ms) {
                (_, Some(limit)) => seconds(limit),
                (true, None) => "the run".to_owned(),
                (false, None) => "-".to_owned(),
            };
            let host = format!("h{}", planned.host);
            let starts = seconds(planned.starts_ms);
            text.push_str(&format!("  {host:<6} {starts:>9} {limit:>12}  {}\n", planned.command));
        }
        text.push_str(&match longest_ms {
            Some(longest) => format!("Over after {} at the latest.\n", seconds(*longest)),
            None => {
                "Over when all commands have ended that are not in the background.\n".to_owned()
            }
        });
        if let Some(directory) = out {
            text.push_str(&format!("Results go to {}.\n", directory.display()));
        }
        text
    }
}

fn seconds(ms: u64) -> String {
    format!("{} s", format_number(Duration::from_millis(ms).as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plan::parse;

    #[test]
    fn the_longest_time_is_known_where_all_that_is_waited_for_has_a_limit() {
        let plan = |limit: &str| {
            let server = "[[command]]\nhost = 1\nbackground = true\nrun = \"serve\"\n";
            let client = "[[command]]\nhost = [0, 2]\ndelay_ms = 500\nrun = [\"ping\", \"h1\"]\n";
            parse(&format!("[lab]\nhosts = 3\n{server}{client}{limit}")).unwrap()
        };
        let limited = Preview::new(&plan("timeout_ms = 2000"), None);
        assert_eq!((limited.longest_ms, limited.commands.len()), (Some(2500), 3));
        let text = limited.text();
        assert!(text.contains("  h2         0.5 s          2 s  ping h1\n"), "{text}");
        assert!(text.contains("  h1           0 s      the run  serve\n"), "{text}");
        assert!(text.ends_with("Over after 2.5 s at the latest.\n"), "{text}");
        let unlimited = Preview::new(&plan(""), Some("results".into()));
        assert_eq!(unlimited.longest_ms, None);
        assert!(unlimited.text().ends_with("background.\nResults go to results.\n"));
    }
}
