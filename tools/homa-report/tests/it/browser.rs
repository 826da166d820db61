//! The page in a real browser: no errors, every plot drawn, the read-out and the legend work.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::harness;
use homa_report::Report;
use serde_json::Value;
use tempfile::TempDir;

/// Does in the page what a reader does, and leaves what came of it in the document.
const READER: &str = include_str!("reader.js");

/// The browser as Debian and others call it; `None` if this machine has none.
fn browser() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = env::split_paths(&path)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|program| program.is_file());
    if found.is_none() {
        let required = env::var("CI").is_ok_and(|value| value == "true");
        assert!(!required, "chromium has to be installed for this test");
        println!("SKIPPED: there is no chromium here");
    }
    found
}

/// Opens a page without window and network, for a minute and a half at most.
fn open(browser: &Path, page: &Path, options: &[&str]) -> Output {
    let profile = TempDir::new().unwrap();
    Command::new("timeout")
        .args(["--kill-after=5", "90"])
        .arg(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap()
}

fn console(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect()
}

fn write_page(directory: &Path) -> PathBuf {
    harness::write_run(&directory.join("run"), 3_000, |_| {});
    let out = directory.join("report.html");
    let report = Report::read(&[directory.join("run")]).unwrap();
    fs::write(&out, report.html(&out)).unwrap();
    out
}

/// The page after a reader was there, and what that reader found.
fn read_by(browser: &Path, page: &Path, extra: &str, width: u32) -> (Output, Value) {
    let text = fs::read_to_string(page).unwrap();
    let visited = page.with_file_name("visited.html");
    let script = format!("<script>{READER}{extra}</script></body>");
    fs::write(&visited, text.replace("</body>", &script)).unwrap();
    let output = open(browser, &visited, &["--dump-dom", &format!("--window-size={width},900")]);
    let document = String::from_utf8_lossy(&output.stdout).into_owned();
    let found =
        document.split_once("<pre id=\"found\">").and_then(|rest| rest.1.split_once("</pre>"));
    let found = found.map_or(Value::Null, |(json, _)| serde_json::from_str(json).unwrap());
    (output, found)
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else { return };
    let directory = TempDir::new().unwrap();
    let page = write_page(directory.path());
    let (output, found) = read_by(&browser, &page, "", 1_000);
    assert_eq!(console(&output), Vec::<String>::new());
    let names: Vec<&str> = found["charts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chart| chart["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["slowdown", "tail", "queues", "queues", "queues", "throughput"], "{found}");
    for chart in found["charts"].as_array().unwrap() {
        assert!(chart["curves"].as_u64() >= Some(3), "{chart}");
        assert_eq!(chart["drawn"], chart["curves"], "{chart}");
        assert_eq!(chart["outside"], 0, "{chart}");
    }
    assert_eq!(found["readout"]["rows"], 6, "{found}");
    assert!(found["readout"]["text"].as_str().unwrap().contains("homa-udp P99: "), "{found}");
    assert_eq!(found["readout_after_leaving"], true, "{found}");
    assert_eq!(found["visible_after_click"], 0, "hidden in every plot: {found}");
    assert_eq!(found["rows_after_click"], 4, "{found}");
    assert!(found["visible_after_key"].as_u64() > Some(0), "{found}");
    assert_eq!(found["too_wide"], false, "{found}");
}

#[test]
fn a_telephone_shows_plots_that_can_be_read() {
    let Some(browser) = browser() else { return };
    let directory = TempDir::new().unwrap();
    let page = write_page(directory.path());
    // Chromium without a window is never narrower than 500 pixels.
    let (output, found) = read_by(&browser, &page, "", 500);
    assert_eq!(console(&output), Vec::<String>::new());
    let names: Vec<&Value> =
        found["charts"].as_array().unwrap().iter().map(|chart| &chart["name"]).collect();
    assert_eq!(names, ["narrow", "narrow", "queues", "queues", "queues", "narrow"], "{found}");
    for chart in found["charts"].as_array().unwrap() {
        assert_eq!((&chart["drawn"], chart["outside"].as_u64()), (&chart["curves"], Some(0)));
    }
    assert!(found["smallest_text_px"].as_f64() > Some(10.0), "{found}");
    assert_eq!((&found["colliding"], &found["too_wide"]), (&Value::from(0), &Value::from(false)));
}

#[test]
fn a_script_that_fails_is_noticed() {
    let Some(browser) = browser() else { return };
    let directory = TempDir::new().unwrap();
    let page = write_page(directory.path());
    let (output, _) = read_by(&browser, &page, "missing();", 1_000);
    assert_eq!(console(&output).len(), 1, "{:?}", console(&output));
}

#[test]
fn a_screenshot_is_kept() {
    let Some(browser) = browser() else { return };
    let directory = TempDir::new().unwrap();
    let page = write_page(directory.path());
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    fs::create_dir_all(&target).unwrap();
    let picture = target.join("report-screenshot.png");
    let _ = fs::remove_file(&picture);
    let option = format!("--screenshot={}", picture.display());
    open(&browser, &page, &[&option, "--window-size=1000,3600"]);
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
}
