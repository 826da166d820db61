//! Huge pages for simulations: nearly every event is about another host, whose state is far away.

use std::{env, os::unix::process::CommandExt, process::Command};

/// The setting by which the allocator of glibc asks for huge pages where the system gives them to
/// those who ask. It is read when a process begins.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// Begins the process anew with huge pages, unless its environment has settings of glibc already.
pub(super) fn ask() {
    let (name, value) = TUNABLES;
    let (Ok(program), None) = (env::current_exe(), env::var_os(name)) else { return };
    let mut args = env::args_os();
    let mut command = Command::new(&program);
    command.arg0(args.next().unwrap_or_else(|| program.into()));
    // It comes back if it failed: the simulation is slower then, and the same.
    let _ = command.args(args).env(name, value).exec();
}
