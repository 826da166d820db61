//! The kernel's switch in real namespaces.
#![allow(missing_docs)]

use homa_lab::{Lab, LabSpec};

#[test]
fn any_program_runs_inside_a_host() {
    let lab = Lab::up(&LabSpec { hosts: 3, ..LabSpec::default() }).unwrap();
    let output = lab.command(1, "ip").unwrap().args(["-br", "addr"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("10.66.0.2/16") && text.contains("fd66::2/64"), "{text}");
}
