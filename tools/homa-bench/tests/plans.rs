//! The plans that come with the project.

use std::path::Path;

use homa_bench::{
    plan::PlanFile,
    settings::{self, LinkFacts},
    workload::Workload,
};

#[test]
fn every_plan_of_the_project_is_read_and_its_settings_are_settings_of_homa() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans");
    let link = LinkFacts { rate_mbps: 100, rtt_us: 100.0, timer_us: 100.0, mtu_bytes: 1500 };
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // What is simulated has plans of its own.
        if path.is_dir() {
            continue;
        }
        let file = PlanFile::read(&path).unwrap();
        for (variant, plan) in &file.variants {
            let name = format!("{}: {variant}", path.display());
            assert!(!plan.title.is_empty() && !plan.expect.is_empty(), "{name}");
            assert!(!plan.published.is_empty(), "{name}: figures to compare with");
            let sizes = Workload::load(&plan.load.workload).unwrap();
            let derived = settings::derive(&link, &sizes, plan.message_bytes_max());
            let settings = settings::with(&derived, &plan.homa, &sizes);
            assert!(settings.is_ok(), "{name}: {settings:?}");
        }
        files += 1;
    }
    assert!(files >= 10, "{files}");
}
