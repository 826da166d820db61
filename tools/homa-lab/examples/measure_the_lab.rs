//! Prints what a lab carries and what it measures about itself:
//! `measure_the_lab kernel|switch HOSTS MBPS`.

use std::time::Instant;

use homa_lab::{
    Backend, Lab, LabSpec,
    calibrate::{self, Load},
    fidelity,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    homa_lab::acquire_privileges()?;
    let mut arguments = std::env::args().skip(1);
    let backend = match arguments.next().as_deref() {
        Some("switch") => Backend::Switch,
        _ => Backend::Kernel,
    };
    let hosts = arguments.next().map_or(Ok(6), |hosts| hosts.parse())?;
    let port_mbps = arguments.next().map_or(Ok(100), |rate| rate.parse())?;
    let spec = LabSpec { hosts, port_mbps, backend, ..LabSpec::default() };
    println!("{:?}", calibrate::saturation(&spec, &Load::full(&spec))?);
    let short = Load { frame_bytes: 200.0, ..Load::full(&spec) };
    println!("{:?}", calibrate::saturation(&spec, &short)?);
    let lab = Lab::up(&spec)?;
    let start = Instant::now();
    println!("{:?}", fidelity::measure_briefly(&lab)?);
    println!("the same in {:?}: {:#?}", start.elapsed(), fidelity::measure(&lab)?);
    const READINGS: u32 = 200;
    let start = Instant::now();
    for _ in 0..READINGS {
        lab.read()?;
    }
    println!("a reading of all counters takes {:?}", start.elapsed() / READINGS);
    Ok(())
}
