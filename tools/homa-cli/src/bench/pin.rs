//! Which core a process runs on.

use homa_bench::pair;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::error::CliError;

/// Cores for client and server; none: wherever the system puts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cores {
    /// Core of the client.
    pub client: Option<usize>,
    /// Core of the server.
    pub server: Option<usize>,
}

impl Cores {
    /// Reads `C,S` or `none`; without text, the first two cores this process may use.
    pub(crate) fn choose(text: Option<&str>) -> Result<Self, CliError> {
        let allowed = allowed()?;
        match text {
            Some("none") => Ok(Cores::default()),
            Some(text) => Self::parse(text, &allowed),
            None => match allowed[..] {
                [client, server, ..] => Ok(Cores { client: Some(client), server: Some(server) }),
                // With a single core, pinning changes nothing.
                _ => Ok(Cores::default()),
            },
        }
    }

    /// Both of them, if they are pinned.
    pub(crate) fn both(self) -> Option<(usize, usize)> {
        self.client.zip(self.server)
    }

    fn parse(text: &str, allowed: &[usize]) -> Result<Self, CliError> {
        let core = |text: &str| text.trim().parse().ok().filter(|core| allowed.contains(core));
        let both = text.split_once(',').and_then(|(c, s)| Some((core(c)?, core(s)?)));
        let Some((client, server)) = both else {
            return Err(CliError::Usage(format!(
                "--cpus {text}: two of the cores {allowed:?} are needed, such as 0,1, or none"
            )));
        };
        Ok(Cores { client: Some(client), server: Some(server) })
    }
}

/// The cores this process may use, by number.
fn allowed() -> Result<Vec<usize>, CliError> {
    let set = sched_getaffinity(None).map_err(|error| CliError::io("cores", &error.into()))?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Pins this thread, and with it all threads it starts later.
pub(crate) fn current_process(core: Option<usize>) -> Result<(), CliError> {
    pair::pin(core).map_err(|error| CliError::io("pinning", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_and_checked() {
        assert_eq!(
            Cores::parse("0,1", &[0, 1]).ok(),
            Some(Cores { client: Some(0), server: Some(1) })
        );
        for text in ["0", "0,9", "a,b", "", ",", "0,1,2"] {
            assert!(matches!(Cores::parse(text, &[0, 1]), Err(CliError::Usage(_))), "{text}");
        }
        assert_eq!(Cores::choose(Some("none")).ok(), Some(Cores::default()));
    }
}
