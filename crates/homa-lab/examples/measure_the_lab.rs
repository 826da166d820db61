//! Prints what a lab measures about itself: `measure_the_lab kernel|switch HOSTS MBPS`.

use homa_lab::{Backend, Lab, LabSpec, calibrate, fidelity};

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
    println!("{:?}", calibrate::saturation(&spec)?);
    let lab = Lab::up(&spec)?;
    println!("{:#?}", fidelity::measure(&lab)?);
    Ok(())
}
