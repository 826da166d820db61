//! Wrong command lines: each ends soon with the right status, says what is wrong, and leaves
//! nothing behind.
#![allow(missing_docs)]

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::geteuid;
use tempfile::TempDir;

/// A user without rights on most systems.
const NOBODY: u32 = 65_534;

/// A command line, the exit status, and a piece of what standard error says.
///
/// `{dir}` is a directory with the files of [`Scene::new`], `{udp}` and `{tcp}` are taken
/// addresses.
type Row = (&'static str, i32, &'static str);

/// Files and ports that the command lines name.
struct Scene {
    directory: TempDir,
    udp: UdpSocket,
    tcp: TcpListener,
    program: PathBuf,
    user: Option<u32>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // So that it can be removed.
        self.set_mode(0o755);
    }
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("falling.csv", "length_bytes,cumulative_fraction\n10,0.5\n5,1\n");
        write("words.csv", "length_bytes,cumulative_fraction\nten,1\n");
        write("empty", "");
        write("broken.toml", "[network\nhosts=");
        write("unknown.toml", "[network]\nhosts = 4\ncolour = 3\n");
        write("type.toml", "[network]\nhosts = \"many\"\n");
        write("secret", "nobody may read this");
        fs::set_permissions(directory.path().join("secret"), fs::Permissions::from_mode(0o000))
            .unwrap();
        for name in ["here", "state"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Scene {
            directory,
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            program: env!("CARGO_BIN_EXE_homa").into(),
            user: None,
        }
    }

    /// A scene in which commands are an ordinary user's.
    fn of_ordinary_user() -> Self {
        let mut scene = Scene::new();
        if geteuid().is_root() {
            // The directory of the build may be closed to others.
            scene.program = scene.path("homa");
            let copied =
                Command::new("cp").arg(env!("CARGO_BIN_EXE_homa")).arg(&scene.program).status();
            assert!(copied.unwrap().success());
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(scene.directory.path(), open).unwrap();
            for name in ["here", "state"] {
                chown(scene.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
            scene.user = Some(NOBODY);
        }
        // Whoever owns the directory may not write to it.
        scene.set_mode(0o555);
        scene
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn check(&self, rows: &[Row]) {
        for row in rows {
            self.check_one(row);
        }
    }

    fn check_one(&self, &(line, status, piece): &Row) {
        let words: Vec<String> = line.split_whitespace().map(|word| self.filled(word)).collect();
        let (code, _, errors) = self.run(&words);
        let told = format!("homa {}\n{errors}", words.join(" "));
        assert_eq!(code, Some(status), "{told}");
        assert!(errors.contains(piece), "{piece:?} is not said by {told}");
        assert!(!errors.contains("panicked"), "{told}");

        // What follows a `--` is another program's.
        let mut words = words;
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.insert(end, "--json".to_owned());
        let (code, output, _) = self.run(&words);
        assert_eq!(code, Some(status), "--json: {told}");
        let document: serde_json::Value = serde_json::from_str(&output)
            .unwrap_or_else(|error| panic!("{error} in the document {output:?} of {told}"));
        assert!(document["error"].is_string(), "{document} of {told}");

        let left = files_below(&self.path("here")) + files_below(&self.path("state"));
        assert_eq!(left, 0, "files left by {told}");
    }

    fn filled(&self, word: &str) -> String {
        word.replace("{dir}", &self.directory.path().display().to_string())
            .replace("{udp}", &self.udp.local_addr().unwrap().to_string())
            .replace("{tcp}", &self.tcp.local_addr().unwrap().to_string())
    }

    /// Status, standard output and standard error.
    fn run(&self, words: &[String]) -> (Option<i32>, String, String) {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(self.path("here"));
        command.env("XDG_RUNTIME_DIR", self.path("state"));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        // The bound on a command that would never end; none of these takes a second.
        let output = assert_cmd::Command::from_std(command)
            .timeout(Duration::from_secs(60))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

fn files_below(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

#[test]
fn wrong_addresses_are_refused() {
    Scene::new().check(&[
        ("call 127.0.0.1 x", 2, "`127.0.0.1` lacks a port; the form is HOST:PORT"),
        ("call 127.0.0.1:0 x", 2, "nobody can be called at port 0"),
        ("call 127.0.0.1:65536 x", 2, "`65536` is no port number"),
        ("call 127.0.0.1:-1 x", 2, "`-1` is no port number"),
        ("call 127.0.0.1:http x", 2, "`http` is no port number"),
        ("call :: x", 2, "is no port number"),
        ("call no-such-host.invalid:4000 x", 1, "cannot resolve `no-such-host.invalid:4000`"),
        ("call 0.0.0.0:4000 x", 1, "0.0.0.0:4000 cannot be called"),
        ("call 224.0.0.1:4000 x", 1, "224.0.0.1:4000 cannot be called"),
        ("call 127.0.0.1:1 x", 1, "nobody serves at 127.0.0.1:1"),
        ("call 127.0.0.1:1 x --transport tcp", 1, "cannot reach 127.0.0.1:1 over tcp"),
        ("ping localhost:99999", 2, "`99999` is no port number"),
        ("ping 127.0.0.1:1 --count 1", 1, "no ping was answered: nobody serves at 127.0.0.1:1"),
        ("load 127.0.0.1:99999", 2, "`99999` is no port number"),
        ("load 127.0.0.1:1 --count 3", 1, "of 3 calls 0 were answered: nobody serves"),
        ("load 127.0.0.1:1 --transport tcp", 1, "cannot reach 127.0.0.1:1 over tcp"),
        ("serve 127.0.0.1:99999", 2, "`99999` is no port number"),
        ("serve nowhere.invalid:1", 1, "cannot resolve `nowhere.invalid:1`"),
        ("serve 203.0.113.1:4000", 1, "is no address of this host"),
        ("serve {udp}", 1, "end the program that has this port, or choose another"),
        ("serve {tcp} --transport tcp", 1, "end the program that has this port"),
    ]);
}

#[test]
fn wrong_numbers_are_refused_with_what_is_right() {
    Scene::new().check(&[
        ("call 127.0.0.1:1 --size 0", 2, "a message has at least 1 byte"),
        ("call 127.0.0.1:1 --size -5", 2, "`-5` is not a size; examples: 100, 10k"),
        ("call 127.0.0.1:1 --size abc", 2, "`abc` is not a size; examples: 100, 10k"),
        ("call 127.0.0.1:1 --size 2GiB", 2, "a message has at most 1 GiB"),
        ("call 127.0.0.1:1 --size 99999999999999999999", 2, "is not a size"),
        (
            "call 127.0.0.1:1 --size 10 --reply-bytes 100",
            2,
            "--reply-bytes needs --size 16 or more",
        ),
        ("call 127.0.0.1:1 --size 100 --reply-bytes 65MiB", 2, "at most 64 MiB can be ordered"),
        ("call 127.0.0.1:1 x --count 0", 2, "0 is not in 1.."),
        ("call 127.0.0.1:1 x --outstanding 200000", 2, "200000 is not in 1..=100000"),
        ("call 127.0.0.1:1 x --timeout soon", 2, "`soon` is not a duration; examples: 10ms"),
        ("call 127.0.0.1:1 x --timeout 0", 2, "must be longer than zero"),
        ("ping 127.0.0.1:1 --size 0", 2, "a message has at least 1 byte"),
        ("ping 127.0.0.1:1 --interval 0", 2, "must be longer than zero"),
        ("ping 127.0.0.1:1 --count -1", 2, "'-1' for '--count <N>'"),
        ("serve 127.0.0.1:0 --delay late", 2, "`late` is not a duration"),
        ("serve 127.0.0.1:0 --max-message 0", 2, "a message has at least 1 byte"),
        ("serve 127.0.0.1:0 --max-message 2GiB", 2, "a message has at most 1 GiB"),
        ("load 127.0.0.1:1 --rate 0", 2, "`0` is not a rate above 0; examples: 500, 10k"),
        ("load 127.0.0.1:1 --rate -5", 2, "`-5` is not a rate above 0"),
        ("load 127.0.0.1:1 --rate fast", 2, "`fast` is not a rate above 0"),
        ("load 127.0.0.1:1 --rate 1000M", 2, "at most 100000000 per second"),
        ("load 127.0.0.1:1 --secs 0", 2, "must be longer than zero"),
        ("load 127.0.0.1:1 --outstanding 0", 2, "0 is not in 1..=100000"),
        (
            "load 127.0.0.1:1 --size 10 --reply-bytes 100",
            2,
            "--reply-bytes needs --size 16 or more",
        ),
    ]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    Scene::new().check(&[
        ("frobnicate", 2, "unrecognized subcommand 'frobnicate'"),
        ("call 127.0.0.1:1", 2, "<TEXT|--file <F>|--size <N>>"),
        ("call 127.0.0.1:1 x --size 10", 2, "cannot be used with"),
        ("call 127.0.0.1:1 x --transport quic", 2, "[possible values: homa, tcp]"),
        ("call 127.0.0.1:1 x --carriage xdp", 2, "[possible values: udp, ip, ip-tcp, auto]"),
        ("ping 127.0.0.1:1 --count 5 --secs 5", 2, "cannot be used with '--secs <TIME>'"),
        ("ping 127.0.0.1:1 --flood --interval 1s", 2, "cannot be used with '--interval <TIME>'"),
        ("serve", 2, "<ADDR:PORT>"),
        ("serve 127.0.0.1:0 --echo --discard", 2, "cannot be used with"),
        ("load", 2, "<ADDR:PORT>..."),
        ("load 127.0.0.1:1 --constant", 2, "--rate <N>"),
        ("load 127.0.0.1:1 --secs 1 --count 1", 2, "cannot be used with"),
        ("load 127.0.0.1:1 --workload w1 --size 100", 2, "cannot be used with"),
        ("load 127.0.0.1:1 127.0.0.1:2 --transport tcp", 2, "over tcp only one server"),
        ("doctor extra", 2, "unexpected argument 'extra'"),
        ("doctor --carriage smoke", 2, "[possible values: udp, ip, ip-tcp, auto]"),
        ("completions tclsh", 2, "[possible values: bash,"),
        ("lab exec h0", 2, "<CMD>..."),
        ("capture", 2, "--read <FILE>|--iface <IF>"),
        ("report", 2, "<DIR>..."),
    ]);
}

#[test]
fn files_that_cannot_be_read_or_understood_are_named() {
    Scene::new().check(&[
        ("call 127.0.0.1:1 --file /no/such/file", 1, "cannot read /no/such/file: No such file"),
        ("call 127.0.0.1:1 --file {dir}", 1, "Is a directory"),
        ("call 127.0.0.1:1 --file {dir}/empty", 2, "a request has at least 1 byte"),
        ("load 127.0.0.1:1 --workload /no/such/w.csv", 1, "cannot read workload /no/such/w.csv"),
        (
            "load 127.0.0.1:1 --workload {dir}/falling.csv",
            1,
            "line 3: lengths and fractions must not fall",
        ),
        ("load 127.0.0.1:1 --workload {dir}/words.csv", 1, "line 2: expected length_bytes"),
        (
            "sim reproduce sigcomm18 --workload /no/such/w.csv",
            1,
            "cannot read workload /no/such/w.csv",
        ),
        ("sim reproduce sigcomm18 --workload {dir}/words.csv", 1, "line 2: expected length_bytes"),
        ("sim reproduce sigcomm18 --load 1", 2, "the load must be above 0 and below 1"),
        ("sim reproduce sigcomm18 --set grants.max_overcommit", 2, "NAME=VALUE is needed"),
        ("sim reproduce sigcomm18 --set grants.overcommit=2", 2, "grants.max_overcommit"),
        (
            "sim reproduce sigcomm18 --set priorities.count=9",
            2,
            "`priorities.count` must be between 1 and 8",
        ),
        (
            "sim reproduce sigcomm18 --network /no/such.toml",
            2,
            "--network: cannot read network /no/such.toml",
        ),
        ("sim reproduce sigcomm18 --network x.toml --racks 2", 2, "cannot be used with"),
        ("sim reproduce sigcomm18 --profile 2019", 2, "possible values: 2018, default"),
        ("load 127.0.0.1:1 --workload {dir}/empty", 1, "no points"),
        ("load 127.0.0.1:1 --workload fixed:0", 2, "a message has at least 1 byte"),
        ("load 127.0.0.1:1 --hdr /no/such/x.hgrm", 1, "cannot write /no/such/x.hgrm"),
        ("load 127.0.0.1:1 --hdr {dir}", 1, "Is a directory"),
        ("man /etc/passwd", 1, "cannot write man pages to /etc/passwd"),
        ("report /no/such/results", 1, "cannot read /no/such/results"),
        ("report {dir}", 1, "has no run.json"),
        ("report /etc/passwd", 1, "Not a directory"),
        ("capture --read /no/such/file", 1, "cannot read /no/such/file: No such file"),
        ("capture --read /etc/passwd", 1, "not a pcap or pcapng file"),
        ("capture --read {dir}/empty", 1, "it is empty"),
        ("capture --read {dir}", 1, "Is a directory"),
        ("capture --iface no-such-if --secs 1", 2, "no network interface `no-such-if`; `ip link`"),
    ]);
}

#[test]
fn wrong_plans_and_settings_of_comparisons_are_refused_before_anything_is_built() {
    Scene::new().check(&[
        ("bench frobnicate", 2, "unrecognized subcommand 'frobnicate'"),
        ("bench --hosts 1", 2, "must be 2 to 250"),
        ("bench --hosts 100000", 2, "must be 2 to 250"),
        ("bench --rate 100T", 2, "`100T` is not a rate; examples: 100M, 1G"),
        ("bench --load 0", 2, "is not a number above zero"),
        ("bench --load nan", 2, "is not a number above zero"),
        ("bench --secs 0", 2, "must be longer than zero"),
        ("bench --rounds 0", 2, "0 is not in 1..=1000"),
        ("bench --mtu 10", 2, "must be 1,280 to 9,000 bytes"),
        ("bench --backend smoke", 2, "must be auto, kernel or switch"),
        ("bench --transport smoke", 2, "`smoke` is no transport; examples: homa-udp"),
        ("bench --set colour=3", 2, "`homa.colour` must be one of limits.max_message_bytes, "),
        ("bench --set num_priorities=3", 2, "such as `priorities.count`"),
        ("bench --set priorities.count=9", 2, "must be between 1 and 8"),
        ("bench --set recovery.timeout=5", 2, "must be a time with its unit"),
        ("bench --set colour", 2, "NAME=VALUE is needed, such as grants.max_overcommit=4"),
        ("bench --set =3", 2, "NAME=VALUE is needed"),
        ("bench plan /no/such/plan.toml", 2, "cannot read plan /no/such/plan.toml"),
        ("bench plan {dir}", 2, "Is a directory"),
        ("bench plan {dir}/broken.toml", 2, "TOML parse error at line 1"),
        ("bench plan {dir}/unknown.toml", 2, "TOML parse error at line 3"),
        ("bench plan {dir}/type.toml", 2, "TOML parse error at line 2"),
        ("bench local speed", 2, "[possible values: compare, latency, rate, goodput, mixed]"),
        ("bench local --cpus 0,100000", 2, "are needed, such as"),
        ("bench local mixed --workload fixed:0", 2, "a message has at least 1 byte"),
        ("bench local latency --cc nope", 2, "no TCP congestion control `nope`; it has:"),
        ("lab up --hosts 1", 2, "1 is not in 2..=250"),
        ("lab up --hosts 100000", 2, "100000 is not in 2..=250"),
        ("lab up --rate 100T", 2, "`100T` is not a rate of 1M to 100G"),
        ("lab up --mtu 1", 2, "must be 1,280 to 9,000 bytes"),
        ("lab up --name ../x", 2, "must be 1 to 40 letters"),
        ("lab down nothing-there", 2, "`homa lab status` lists those there are"),
        ("lab exec h0 --name nothing-there -- true", 2, "build one with `homa lab up`"),
        ("lab run /no/such/run.toml", 1, "cannot read /no/such/run.toml"),
        ("lab run {dir}", 1, "Is a directory"),
        ("lab run {dir}/broken.toml", 2, "TOML parse error at line 1"),
        ("lab run {dir}/unknown.toml", 2, "TOML parse error"),
    ]);
}

#[test]
fn what_an_ordinary_user_may_not_do_is_said() {
    let scene = Scene::of_ordinary_user();
    scene.check(&[
        ("serve 127.0.0.1:4999 --carriage ip", 1, "CAP_NET_RAW: run as root, or once `sudo setcap"),
        (
            "call 127.0.0.1:99 x --carriage ip",
            1,
            "cannot call 127.0.0.1:99 over homa-ip: raw IP needs",
        ),
        ("ping 127.0.0.1:99 --carriage ip", 1, "raw IP needs CAP_NET_RAW"),
        ("load 127.0.0.1:99 --carriage ip-tcp", 1, "raw IP needs CAP_NET_RAW"),
        ("capture --iface lo --secs 1", 2, "sudo setcap cap_net_raw+ep"),
        ("call 127.0.0.1:1 --file {dir}/secret", 1, "secret: Permission denied"),
        ("capture --read {dir}/secret", 1, "secret: Permission denied"),
        ("load 127.0.0.1:1 --workload {dir}/secret", 1, "secret: Permission denied"),
        ("bench plan {dir}/secret", 2, "secret: Permission denied"),
        ("lab run {dir}/secret", 1, "secret: Permission denied"),
        ("load 127.0.0.1:1 --hdr {dir}/x.hgrm", 1, "x.hgrm: Permission denied"),
        ("man {dir}/man", 1, "cannot write man pages to"),
    ]);
    // In the lab's user namespace a user may write to all directories of his own.
    if geteuid().is_root() {
        scene.check(&[("bench --out {dir}/results", 1, "cannot write results to")]);
    }
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() <= 80 {
        println!("SKIPPED: here everybody may serve at port 80");
        return;
    }
    scene.check(&[
        ("serve 127.0.0.1:80", 1, "is for root; choose a higher one"),
        ("serve 127.0.0.1:80 --transport tcp", 1, "is for root; choose a higher one"),
    ]);
}
