//! Tests of the engine through its public interface, in virtual time.

mod harness;

mod acks;
mod at_most_once;
mod attacks;
mod buffers;
mod coalescing;
mod counters;
mod draining;
mod ended;
mod errors;
mod every_call_ends;
mod fairness;
mod found_by_mutants;
mod found_by_seeds;
mod framed;
mod given_up;
mod grants;
mod hostile;
mod identity;
mod interop;
mod liveness;
mod pacing;
mod pair;
mod peers;
mod priorities;
mod receiving;
mod recovery;
mod replay;
mod retransmission;
mod scenario_table;
mod shares;
mod shares_of_memory;
mod sockets;
mod waiting_for_memory;
mod wire_format;
