//! Programs in the language of classic BPF, by which the kernel decides which packets a socket gets
//! before they are queued. They only jump forward, to places that are named before they are
//! reached.

use crate::call::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where a jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Next,
    Label(usize),
    Accept,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    code: u32,
    operand: u32,
    if_true: To,
    if_false: To,
}

/// A program under construction; what comes to its end is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    steps: Vec<Step>,
    labels: Vec<usize>,
}

impl Program {
    pub(crate) fn step(&mut self, code: u32, operand: u32) {
        self.steps.push(Step { code, operand, if_true: To::Next, if_false: To::Next });
    }

    pub(crate) fn jump_equal(&mut self, operand: u32, if_true: To, if_false: To) {
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.steps.push(Step { code, operand, if_true, if_false });
    }

    /// A name for a place not yet reached.
    pub(crate) fn label(&mut self) -> usize {
        self.labels.push(usize::MAX);
        self.labels.len() - 1
    }

    /// The next step is the place.
    pub(crate) fn place(&mut self, label: usize) {
        if let Some(place) = self.labels.get_mut(label) {
            *place = self.steps.len();
        }
    }

    /// The program with its two ends, of which the first accepts `accepted_bytes` of a packet, and
    /// jumps as distances; `None` if one is too far.
    pub(crate) fn assemble(&self, accepted_bytes: u32) -> Option<Vec<libc::sock_filter>> {
        let (accept, reject) = (self.steps.len(), self.steps.len() + 1);
        let distance = |at: usize, to: To| {
            let target = match to {
                To::Next => at + 1,
                To::Label(label) => *self.labels.get(label)?,
                To::Accept => accept,
                To::Reject => reject,
            };
            u8::try_from(target.checked_sub(at + 1)?).ok()
        };
        let mut program = Vec::with_capacity(self.steps.len() + 2);
        for (at, step) in self.steps.iter().enumerate() {
            program.push(libc::sock_filter {
                // All codes have 8 bits.
                code: step.code as u16,
                jt: distance(at, step.if_true)?,
                jf: distance(at, step.if_false)?,
                k: step.operand,
            });
        }
        let end =
            |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
        program.extend([end(accepted_bytes), end(0)]);
        Some(program)
    }

    /// Lets only `accepted_bytes` of what the program accepts into the socket.
    ///
    /// # Errors
    /// `InvalidInput` if the program is too long, or what the system says.
    pub(crate) fn attach(&self, fd: BorrowedFd<'_>, accepted_bytes: u32) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let mut steps = self.assemble(accepted_bytes).ok_or_else(invalid)?;
        let whole = libc::sock_fprog {
            len: u16::try_from(steps.len()).map_err(|_| invalid())?,
            filter: steps.as_mut_ptr(),
        };
        // SAFETY: pointer and length describe the local `whole`, whose own pointer and length
        // describe the local `steps`; the call reads both and keeps a copy.
        let result = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const whole).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        check(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_jump_farther_than_the_language_knows_is_refused() {
        let program = |comparisons: u32| {
            let mut program = Program::default();
            (0..comparisons).for_each(|value| program.jump_equal(value, To::Accept, To::Next));
            program.assemble(1)
        };
        // The first of them jumps over all others.
        assert_eq!(program(256).map(|steps| (steps.len(), steps[0].jt)), Some((258, 255)));
        assert!(program(257).is_none());
    }
}
