//! Programs that are run by name, also those that are for administrators.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{Access, access};

/// Where programs for administrators are: Debian's ordinary users do not have these directories in
/// PATH.
const ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What PATH is taken for where there is none.
const USERS: &str = "/usr/local/bin:/usr/bin:/bin";

/// PATH, and behind it the directories of programs for administrators that it lacks.
pub fn search_path() -> OsString {
    extended(env::var_os("PATH").unwrap_or_else(|| USERS.into()))
}

fn extended(path: OsString) -> OsString {
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    for directory in ADMINISTRATORS.map(PathBuf::from) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    // Fails only for names with a colon, and these came from between colons.
    env::join_paths(directories).unwrap_or(path)
}

/// The file of a program in [`search_path`].
pub fn find(program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    // A relative directory would mean something else wherever the program runs.
    env::split_paths(&search_path())
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(Path::new(program)))
        .find(is_program)
}

/// A command that runs a program of [`search_path`].
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if none of the directories has it.
pub fn command(program: &str) -> io::Result<Command> {
    find(program).map(Command::new).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_path_says_comes_before_the_directories_of_administrators() {
        let path = |text: &str| extended(text.into()).into_string().unwrap();
        assert_eq!(path("/a:/bin"), "/a:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        assert_eq!(path("/sbin:/bin"), "/sbin:/bin:/usr/local/sbin:/usr/sbin");
        assert_eq!(path(USERS), "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    }

    #[test]
    fn only_what_can_be_run_is_a_program() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
        // A directory below `/usr` that is named like a program.
        assert_eq!(find("../share"), None);
    }
}
