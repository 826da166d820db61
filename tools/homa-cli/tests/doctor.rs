//! `homa doctor` on hosts of its own: what it finds, and that the commands it prints mend it.

use std::io::Write;
use std::process::{Command, Output};

use serde_json::Value;

const HOMA: &str = env!("CARGO_BIN_EXE_homa");

/// Whether this can be run here; says so if not.
fn possible(tool: &str, arguments: &[&str]) -> bool {
    let works =
        Command::new(tool).args(arguments).output().is_ok_and(|output| output.status.success());
    if !works {
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true")
            && rustix::process::geteuid().is_root();
        assert!(!must, "`{tool}` does not work here");
        let _ = writeln!(std::io::stdout(), "SKIPPED: `{tool}` does not work here");
    }
    works
}

/// Runs a script in a network namespace of its own; `$homa` is the command.
fn on_a_host(script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--net", "bash", "-euc", script]).env("homa", HOMA);
    command.output().unwrap()
}

fn document(output: &[u8]) -> Value {
    serde_json::from_slice(output)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(output)))
}

/// What a check whose name begins so found.
fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|one| one["check"].as_str().unwrap().starts_with(name)).unwrap()
}

#[test]
fn every_check_says_what_it_found_and_what_that_means() {
    let output = Command::new(HOMA).args(["doctor", "--json"]).output().unwrap();
    let document = document(&output.stdout);
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.len() >= 10);
    for check in checks {
        for field in ["check", "found", "meaning"] {
            assert!(!check[field].as_str().unwrap().is_empty(), "{check}");
        }
        assert!(["ok", "warning", "problem"].contains(&check["state"].as_str().unwrap()));
    }
    let problems = checks.iter().filter(|check| check["state"] == "problem").count();
    assert_eq!(document["problems"], problems);
    assert_eq!(output.status.code(), Some(i32::from(problems > 0)));
}

#[test]
fn without_the_capability_raw_ip_is_a_problem_and_udp_is_not() {
    let without = ["--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    if !possible("setpriv", &[&without[..], &["true"]].concat()) {
        return;
    }
    let run = |arguments: &[&str]| {
        Command::new("setpriv").args(without).arg(HOMA).args(arguments).output().unwrap()
    };
    let output = run(&["doctor", "--carriage", "ip"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("PROBLEM  raw sockets"), "{text}");
    assert!(text.contains("\nsudo setcap cap_net_raw+ep "), "{text}");
    let output = run(&["doctor", "--json"]);
    assert_eq!(check(&document(&output.stdout), "raw sockets")["state"], "warning");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_commands_that_it_prints_load_the_rules_and_it_loads_nothing_itself() {
    if !possible("unshare", &["--net", "nft", "list", "ruleset"]) {
        return;
    }
    let look = "ip link set lo up; \"$homa\" doctor --carriage ip --json";
    let first = document(&on_a_host(look).stdout);
    let rules = check(&first, "nftables rules");
    assert_eq!(
        (rules["state"].as_str(), rules["found"].as_str()),
        (Some("warning"), Some("not loaded"))
    );
    // As a root without `sudo` would do it.
    let mend = rules["mend"].as_str().unwrap().replace("sudo ", "");
    let untouched = on_a_host(&format!("{look} > /dev/null; nft list ruleset"));
    assert_eq!((untouched.status.code(), untouched.stdout.len()), (Some(0), 0));

    let mended = document(&on_a_host(&format!("{mend}\n{look}")).stdout);
    assert_eq!(check(&mended, "nftables rules")["state"], "ok");
    assert_eq!(check(&mended, "nftables rules")["found"], "loaded");

    let half = mend.lines().filter(|line| !line.contains("ip6")).collect::<Vec<_>>().join("\n");
    let half = format!("{half}\n{look}");
    let partly = document(&on_a_host(&half).stdout);
    let rules = check(&partly, "nftables rules");
    assert_eq!(rules["found"], "loaded for IPv4 only");
    let mend = rules["mend"].as_str().unwrap().replace("sudo ", "");
    let script = format!("{} > /dev/null\n{mend}\n{look}", half);
    assert_eq!(check(&document(&on_a_host(&script).stdout), "nftables rules")["found"], "loaded");
}

#[test]
fn endpoints_over_raw_ip_and_their_responder_are_found() {
    if !possible("unshare", &["--net", "ip", "link", "set", "lo", "up"]) {
        return;
    }
    let script = "
        ip link set lo up
        \"$homa\" serve 127.0.0.1:4000 --carriage ip >&2 & first=$!
        \"$homa\" serve 127.0.0.1:4001 --carriage ip-tcp >&2 & second=$!
        trap 'kill $first $second' EXIT
        calls() {
            \"$homa\" call 127.0.0.1:4000 --size 100k --verify --carriage ip-tcp >&2 &&
            \"$homa\" call 127.0.0.1:4001 --size 100k --verify --carriage ip >&2
        }
        for attempt in $(seq 50); do calls && break; sleep 0.1; done
        \"$homa\" doctor --carriage ip --json";
    let output = on_a_host(script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = document(&output.stdout);
    let responder = check(&document, "responder")["found"].as_str().unwrap();
    assert!(responder.starts_with("held by homa (process "), "{responder}");
    let endpoints = check(&document, "endpoints");
    assert_eq!(endpoints["found"], "2 endpoints in 2 processes, with ports 4000, 4001");
    assert_eq!(endpoints["state"], "warning");
}

#[test]
fn where_namespaces_are_refused_it_says_why_and_what_becomes_of_the_comparison() {
    // A limit of zero that holds in a user namespace of the test's own, and nobody there with
    // rights.
    let limited = "echo 0 > /proc/sys/user/max_user_namespaces && \
                   exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let shell = ["--user", "--map-root-user", "sh", "-c", limited, "sh"];
    if !possible("unshare", &[&shell[..], &["true"]].concat()) {
        return;
    }
    let output =
        Command::new("unshare").args(shell).args([HOMA, "doctor", "--json"]).output().unwrap();
    let document = document(&output.stdout);
    let namespaces = check(&document, "user namespaces");
    let found = namespaces["found"].as_str().unwrap();
    assert!(found.contains("user.max_user_namespaces allows"), "{found}");
    assert_eq!(namespaces["mend"], "sudo sysctl -w user.max_user_namespaces=10000");
    assert_eq!(check(&document, "lab of two hosts")["state"], "warning");
    let bench = check(&document, "`homa bench`")["found"].as_str().unwrap();
    assert!(bench.starts_with("compares over loopback"), "{bench}");
}

#[test]
fn it_says_which_driver_would_be_chosen_and_why() {
    if !possible("unshare", &["--net", "true"]) {
        return;
    }
    let script = "ip link add x0 type veth peer name x1; ip addr add 10.9.0.1/24 dev x0
        ip link set x0 up; $homa doctor --json --driver auto --interface x0 || true";
    let chosen =
        |output: &[u8]| check(&document(output), "driver")["found"].as_str().unwrap().to_owned();
    let text = chosen(&on_a_host(script).stdout);
    // Without the capabilities, or on an old kernel, it is sockets, and why is said.
    let by_right = text == "--driver auto chooses AF_XDP on x0";
    assert!(by_right || text.starts_with("--driver auto chooses sockets: "), "{text}");
    let output = on_a_host("$homa doctor --json --driver xdp || true");
    let text = chosen(&output.stdout);
    assert!(text.starts_with("--driver auto chooses sockets: no Ethernet"), "{text}");
    assert_eq!(check(&document(&output.stdout), "driver")["state"], "problem");
}
