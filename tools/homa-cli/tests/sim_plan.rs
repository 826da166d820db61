//! `homa sim run`, `point`, `list` and `collect` as users run them.
#![allow(missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Six points that take no time.
const PLAN: &str = "title = \"Small\"\nmessages = 200\ntraffic.sizes = \"w1\"\nload = [0.3, 0.5]\n\
    homa.grants.max_overcommit = [1, 2, 4]\n";

fn homa(arguments: &[&str]) -> Command {
    let mut homa = Command::cargo_bin("homa").unwrap();
    homa.args(arguments);
    homa
}

/// A directory with a plan in it.
fn with_plan(text: &str) -> (TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    let plan = place.path().join("plan.toml");
    fs::write(&plan, text).unwrap();
    (place, plan.to_str().unwrap().to_owned())
}

fn path(place: &TempDir, name: &str) -> String {
    place.path().join(name).to_str().unwrap().to_owned()
}

/// What is in a directory, by name.
fn files(directory: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

fn json(arguments: &[&str]) -> Value {
    let output = homa(&[&["--json"], arguments].concat()).assert().success().get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command that fails says on standard error.
fn refused(arguments: &[&str], status: i32) -> String {
    let output = homa(arguments).assert().code(status).get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_run_a_run_with_two_threads_and_single_points_give_the_same_files() {
    let (place, plan) = with_plan(PLAN);
    let [one, two, points] = ["one", "two", "points"].map(|name| path(&place, name));
    homa(&["sim", "run", &plan, "--out", &one, "--threads", "1"]).assert().success();
    homa(&["sim", "run", &plan, "--out", &two, "--threads", "2"]).assert().success();
    for index in ["5", "0", "1", "2", "3", "4"] {
        homa(&["sim", "point", &plan, "--index", index, "--out", &points]).assert().success();
    }
    assert_eq!(files(&one).len(), 6);
    assert_eq!(files(&one), files(&two));
    assert_eq!(files(&one), files(&points));
}

#[test]
fn points_that_are_done_are_not_simulated_again_and_damaged_ones_are() {
    let (place, plan) = with_plan(PLAN);
    let out = path(&place, "out");
    let point = |index: &str| json(&["sim", "point", &plan, "--index", index, "--out", &out]);
    assert_eq!(point("2")["was_done"], false);
    assert_eq!(point("2")["was_done"], true);
    let file = point("2")["file"].as_str().unwrap().to_owned();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let listed = |index: usize| {
        json(&["sim", "list", &plan, "--out", &out])["points"][index]["done"].as_bool().unwrap()
    };
    assert!(!listed(2));
    assert_eq!(point("2")["was_done"], false);
    assert_eq!(fs::read(&file).unwrap(), whole);
    assert!(listed(2) && !listed(3));
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    let ran = homa(&["sim", "run", &plan, "--out", &out]).assert().success();
    let said = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert!(said.contains("6 points, 1 of them done"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    assert!((0..6).all(listed));
}

#[test]
fn results_are_collected_with_the_inputs_that_differ_and_each_once() {
    let (place, plan) = with_plan(PLAN);
    let [all, some] = ["all", "some"].map(|name| path(&place, name));
    let printed = json(&["sim", "run", &plan, "--out", &all]);
    homa(&["sim", "point", &plan, "--index", "1", "--out", &some]).assert().success();
    let both = json(&["sim", "collect", &all, &some]);
    assert_eq!(both["points"].as_array().unwrap().len(), 6);
    assert_eq!(printed["points"].as_array().unwrap().len(), 6);
    for point in both["points"].as_array().unwrap() {
        assert_eq!(point["figures"]["all"]["messages"], 170, "85 % of 200");
        assert_eq!(point["inputs"]["homa"]["priorities"]["count"], 8);
    }
    let csv = homa(&["sim", "collect", &all, "--csv"]).assert().success();
    let csv = String::from_utf8(csv.get_output().stdout.clone()).unwrap();
    let header = "name,load,homa.grants.max_overcommit,messages_counted,slowdown_p50,slowdown_p99";
    assert!(csv.starts_with(header), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    let table = homa(&["sim", "collect", &all]).assert().success();
    let table = String::from_utf8(table.get_output().stdout.clone()).unwrap();
    assert!(table.contains("max_overcommit") && !table.contains("cutoffs"), "{table}");
}

#[test]
fn a_run_that_is_interrupted_keeps_finished_points_and_goes_on() {
    let (place, plan) = with_plan(&PLAN.replace("= 200", "= [200, 2000000]"));
    let out = path(&place, "out");
    let mut child = process::Command::new(assert_cmd::cargo::cargo_bin("homa"))
        .args(["sim", "run", &plan, "--out", &out, "--threads", "1"])
        .stderr(process::Stdio::null())
        .stdout(process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let done = || fs::read_dir(&out).map_or(0, |entries| entries.count());
    while done() < 1 && begun.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let kept = files(&out);
    assert!(!kept.is_empty());
    // The rest of the plan would take too long here.
    let small = place.path().join("plan.toml");
    fs::write(&small, PLAN).unwrap();
    let ran = homa(&["sim", "run", &plan, "--out", &out]).assert().success();
    let said = String::from_utf8_lossy(&ran.get_output().stderr).into_owned();
    assert!(said.contains(&format!("{} of them done", kept.len())), "{said}");
    let whole = files(&out);
    assert!(kept.iter().all(|(name, content)| whole.get(name) == Some(content)));
}

#[test]
fn what_cannot_be_done_is_said_before_anything_runs() {
    let (place, plan) = with_plan(PLAN);
    let out = path(&place, "out");
    homa(&["sim", "point", &plan, "--index", "0", "--out", &out]).assert().success();
    let other = path(&place, "other.toml");
    fs::write(&other, PLAN.replace("w1", "w2")).unwrap();
    for command in [
        &["sim", "run", &other, "--out", &out][..],
        &["sim", "point", &other, "--index", "0", "--out", &out],
        &["sim", "list", &other, "--out", &out],
    ] {
        let said = refused(command, 2);
        assert!(said.contains("1 results that are not of this plan"), "{said}");
        assert!(said.contains("give another directory with --out"), "{said}");
    }
    let wrong = path(&place, "wrong.toml");
    fs::write(&wrong, "title = \"x\"\nlaod = 1\n").unwrap();
    for (command, status, part) in [
        (&["sim", "run", &wrong, "--out", &out][..], 2, "line 2"),
        (&["sim", "run", "no/plan.toml"], 2, "cannot read plan no/plan.toml: No such file"),
        (&["sim", "point", &plan, "--index", "6", "--out", &out], 2, "are 0 to 5"),
        (&["sim", "run", &plan, "--out", "/proc/nope"], 1, "cannot write results to /proc/nope"),
        (&["sim", "run", &plan, "--out", &plan], 1, "cannot write results to"),
        (&["sim", "collect", "no/results"], 1, "cannot read results from no/results"),
        (&["sim", "collect", place.path().to_str().unwrap()], 1, "no results in"),
    ] {
        let said = refused(command, status);
        assert!(said.contains(part), "{command:?}: {said}");
    }
    assert_eq!(files(&out).len(), 1);
}

#[test]
fn results_are_explained_whatever_was_simulated_and_those_of_other_sources_are_not() {
    let text = "messages = 200\ntraffic.sizes = \"sizes.csv\"\nnetwork.racks = 2\n\
        transport = [\"homa\", \"dctcp\", \"pfabric\"]\npacing = \"clock\"\n";
    let (place, plan) = with_plan(text);
    let sizes = place.path().join("sizes.csv");
    fs::write(&sizes, "length_bytes,cumulative_fraction\n100,0.5\n60000,1\n").unwrap();
    let out = path(&place, "out");
    homa(&["sim", "run", &plan, "--out", &out]).assert().success();
    let directory = place.path().to_str().unwrap();
    let options = ["--worst", "2", "--files", directory];
    let explained = json(&[&["sim", "explain", &out], &options[..]].concat());
    let runs = explained["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        let file = format!("{out}/{}.json", run["hash"].as_str().unwrap());
        let result: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(run["inputs"], result["inputs"]);
        assert_eq!(run["slowest"][0]["slowdown"], result["figures"]["all"]["max"]);
        assert!(run["slowest"][1]["way_us"].as_f64().unwrap() > 0.0, "{run}");
        let alone = json(&[&["sim", "explain", &file], &options[..]].concat());
        assert_eq!(alone["runs"], Value::Array(vec![run.clone()]));
    }
    let file = format!("{out}/{}.json", runs[0]["hash"].as_str().unwrap());
    let said = refused(&["sim", "explain", &file], 1);
    assert!(said.contains("sizes.csv") && said.contains("--files names"), "{said}");
    fs::write(&sizes, "length_bytes,cumulative_fraction\n100,0.5\n60001,1\n").unwrap();
    let said = refused(&["sim", "explain", &file, "--files", directory], 1);
    assert!(said.contains("not those that went in; --files names"), "{said}");
    let ours = fs::read_to_string(&file).unwrap();
    let version = runs[0]["inputs"]["version"].as_str().unwrap();
    fs::write(&file, ours.replace(version, "0.0.9+abc")).unwrap();
    let said = refused(&["sim", "explain", &file], 1);
    assert!(said.contains("made by version 0.0.9+abc, and this is"), "{said}");
    fs::write(&file, "{\"rows\": []}").unwrap();
    for (result, part) in [
        (&*file, "no inputs of a simulation; `homa sim run`"),
        (&*plan, "expected value"),
        (directory, "no results in"),
        ("no/such", "No such file"),
    ] {
        let said = refused(&["sim", "explain", result], 1);
        assert!(said.contains(part), "{result}: {said}");
    }
}

#[test]
fn a_full_disk_stops_a_run_that_keeps_what_is_done_and_goes_on_when_there_is_room() {
    let (place, plan) = with_plan(PLAN);
    let out = path(&place, "out");
    fs::create_dir(&out).unwrap();
    let Some(disk) = Disk::mount(Path::new(&out), "size=40k") else {
        println!("SKIPPED: a small file system cannot be mounted here");
        return;
    };
    let said = refused(&["sim", "run", &plan, "--out", &out], 1);
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("of 6 points are done and kept; the same command goes on"), "{said}");
    let kept = files(&out);
    assert!(!kept.is_empty() && kept.len() < 6, "{}", kept.len());
    disk.remount("size=4m");
    homa(&["sim", "run", &plan, "--out", &out]).assert().success();
    let whole = files(&out);
    assert_eq!(whole.len(), 6);
    assert!(kept.iter().all(|(name, content)| whole.get(name) == Some(content)));
}

/// A file system in memory, until it is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Self> {
        let mounted = process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .stderr(process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mounted = process::Command::new("mount").args(["-o", &options]).arg(self.0).status();
        assert!(mounted.unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = process::Command::new("umount").arg(self.0).status();
    }
}
