//! Where the peer program is, which speaks the transports that this one must not depend on.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Its name.
const NAME: &str = "homa-bench-peers";
/// Names its path, if it is elsewhere.
const VARIABLE: &str = "HOMA_BENCH_PEERS";
/// What to do where it is missing.
const BUILD: &str = "build it by `cargo build --release --manifest-path peers/Cargo.toml`";

/// The peer program for a command: where the environment says, beside the command, in the checkout
/// that the command was built in, else in the search path.
pub(super) fn find(command: &Path) -> io::Result<PathBuf> {
    find_with(command, env::var_os(VARIABLE), env::var_os("PATH"))
}

fn find_with(
    command: &Path,
    given: Option<OsString>,
    search: Option<OsString>,
) -> io::Result<PathBuf> {
    if let Some(path) = given.filter(|path| !path.is_empty()).map(PathBuf::from) {
        return match is_program(&path) {
            true => Ok(path),
            false => Err(missing(format!("{VARIABLE}={} is no program; {BUILD}", path.display()))),
        };
    }
    let search = search.unwrap_or_default();
    let in_path = env::split_paths(&search).map(|directory| directory.join(NAME));
    beside(command).into_iter().chain(in_path).find(|path| is_program(path)).ok_or_else(|| {
        missing(format!(
            "QUIC and gRPC are spoken by a program of their own, {NAME}, which is neither beside {} nor in PATH: {BUILD}, or \
             name it by {VARIABLE}=PATH",
            command.display()
        ))
    })
}

/// `homa` in `DIR/target/PROFILE` belongs to `homa-bench-peers` in `DIR/peers/target/PROFILE`.
fn beside(command: &Path) -> Vec<PathBuf> {
    let Some(directory) = command.parent() else { return Vec::new() };
    let mut found = vec![directory.join(NAME)];
    let target = directory.parent().filter(|target| target.file_name() == Some("target".as_ref()));
    if let (Some(checkout), Some(profile)) = (target.and_then(Path::parent), directory.file_name())
    {
        let built = |profile: &OsStr| checkout.join("peers/target").join(profile).join(NAME);
        found.extend([built(profile), built("release".as_ref())]);
    }
    found
}

/// The peer program's command on another machine, from that of `homa` there: beside it, and with
/// its arguments.
pub(super) fn remote(command: &str) -> io::Result<String> {
    let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let program = words.iter_mut().rfind(|word| word.rsplit('/').next() == Some("homa"));
    let program = program.ok_or_else(|| {
        missing(format!("`{command}` names no program `homa`, beside which {NAME} would be"))
    })?;
    let directory = program.strip_suffix("homa").unwrap_or_default();
    *program = format!("{directory}{NAME}");
    Ok(words.join(" "))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn missing(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn it_is_found_from_the_nearest_place_to_the_farthest() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let command = at("target/debug/homa");
        let find = || find_with(&command, None, Some(at("bin").into()));
        let places = [
            "bin/homa-bench-peers",
            "peers/target/release/homa-bench-peers",
            "peers/target/debug/homa-bench-peers",
            "target/debug/homa-bench-peers",
        ];
        let error = find().unwrap_err().to_string();
        assert!(
            error.contains("cargo build --release --manifest-path peers/Cargo.toml"),
            "{error}"
        );
        for place in places {
            program(&at(place));
            assert_eq!(find().unwrap(), at(place));
        }
    }

    #[test]
    fn what_the_environment_names_is_taken_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (named, command) = (directory.path().join("named"), directory.path().join("homa"));
        program(&directory.path().join(NAME));
        let find = |path: &Path| find_with(&command, Some(path.into()), None);
        assert!(find(&named).unwrap_err().to_string().contains(VARIABLE));
        program(&named);
        assert_eq!(find(&named).unwrap(), named);
        fs::set_permissions(&named, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(&named).is_err());
        assert_eq!(find(Path::new("")).unwrap(), directory.path().join(NAME));
    }

    #[test]
    fn on_other_machines_it_is_beside_homa() {
        let good = [
            ("homa bench-host", "homa-bench-peers bench-host"),
            (
                "sudo /opt/homa/bin/homa  bench-host",
                "sudo /opt/homa/bin/homa-bench-peers bench-host",
            ),
        ];
        for (homa, peer) in good {
            assert_eq!(remote(homa).unwrap(), peer);
        }
        assert!(remote("/opt/homa/run.sh").is_err());
    }
}
