//! The plans of simulations that come with the project.

use std::{ops::ControlFlow, path::Path};

use homa_sim::{
    Run,
    figures::PointResult,
    plan::{Plan, Point},
};

#[test]
fn every_plan_of_the_project_is_read_and_its_first_and_last_points_run_in_a_tiny_form() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plans/sim");
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let plan = Plan::read(&path).unwrap();
        let name = path.display();
        assert!(!plan.title.is_empty() && !plan.expect.is_empty(), "{name}");
        assert!(!plan.published.is_empty(), "{name}: figures to compare with");
        for point in [plan.points.first().unwrap(), plan.points.last().unwrap()] {
            let run = Run { messages: 100, ..point.run.clone() };
            let point = Point { run, ..point.clone() };
            let outcome = point.run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
            let figures = PointResult::of(&point, &outcome).figures;
            assert_eq!((figures.stuck, figures.unfinished), (false, 0), "{name}: {}", point.label);
            assert_eq!(figures.all.unwrap().messages, 85, "{name}: {}", point.label);
        }
        files += 1;
    }
    assert!(files >= 7, "{files}");
}
