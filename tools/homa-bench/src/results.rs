//! Directories of results: tried before anything is measured, and never shared or overwritten.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Files of a run, of a page and of pictures: what a directory of results may have in it.
const OURS: [&str; 7] =
    ["run.json", "rpcs.csv", "queues.csv", "throughput.csv", PAGE, "slowdown.svg", "slowdown.png"];

/// The page of all runs.
const PAGE: &str = "report.html";

/// Longest name of a variant's directory, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// Earlier results that are kept beside new ones.
const KEPT_MAX: u32 = 9_999;

/// The directory below `out` of each variant, by its name; `out` itself for one without. No two
/// share one, and none is outside `out`.
pub fn directories<'a>(out: &Path, names: impl IntoIterator<Item = &'a str>) -> Vec<PathBuf> {
    let mut taken = vec![PAGE.to_owned()];
    let mut directory = |name: &str| {
        if name.is_empty() {
            return out.to_owned();
        }
        let plain = plain(name);
        let others = (2..).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.clone()).chain(others).find(|name| !taken.contains(name));
        // There is always another number.
        let free = free.unwrap_or(plain);
        taken.push(free.clone());
        out.join(free)
    };
    names.into_iter().map(&mut directory).collect()
}

/// A name that is one component of a path, whatever the name of the variant.
fn plain(name: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if keep(c) { c } else { '-' }).collect();
    let name = name[..name.len().min(NAME_BYTES_MAX)].to_owned();
    match name.starts_with('.') {
        true => name.replacen('.', "-", 1),
        false => name,
    }
}

/// Makes `out` and the directories below it, and writes to each. Results of an earlier run in `out`
/// are kept: the whole directory gets another name, which is returned.
///
/// # Errors
/// A directory cannot be made or written to; earlier results are among files that are none.
pub fn prepare(out: &Path, directories: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let kept = set_aside(out)?;
    try_directory(out)?;
    directories.iter().try_for_each(|directory| try_directory(directory))?;
    Ok(kept)
}

/// Makes a directory and writes a file to it, which is removed again.
///
/// # Errors
/// What the system says.
pub fn try_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let file = directory.join(format!(".writable-{}", std::process::id()));
    File::create(&file)?;
    fs::remove_file(file)
}

/// Renames a directory with results to the first free of `NAME.1`, `NAME.2`, ...
fn set_aside(out: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_run = |path: &Path| path.join("run.json").exists();
    let holds_results = is_run(out) || entries.iter().any(|entry| is_run(&entry.path()));
    if !holds_results {
        return Ok(None);
    }
    let ours = |entry: &fs::DirEntry| {
        OURS.iter().any(|name| entry.file_name() == *name)
            || is_run(&entry.path())
            || is_empty(&entry.path())
    };
    if let Some(other) = entries.iter().find(|entry| !ours(entry)) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "it has results of an earlier run beside other files ({:?}): choose another directory",
                other.file_name()
            ),
        ));
    }
    let Some(name) = out.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it has results of an earlier run and cannot be renamed: choose another directory",
        ));
    };
    let numbered = |number| {
        let mut name = name.to_owned();
        name.push(format!(".{number}"));
        out.with_file_name(name)
    };
    let free = (1..=KEPT_MAX).map(numbered).find(|path| fs::symlink_metadata(path).is_err());
    let free = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(out, &free)?;
    Ok(Some(free))
}

/// Whether it is a directory with nothing in it, such as that of a variant that was not reached.
fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<String> {
        let found = directories(Path::new("out"), of.iter().copied());
        found.iter().map(|path| path.strip_prefix("out").unwrap().display().to_string()).collect()
    }

    #[test]
    fn variants_have_directories_of_their_own_below_the_results() {
        assert_eq!(names(&["load 0.8/x", ""]), ["load-0.8-x", ""]);
        assert_eq!(names(&["a b", "a-b", "a/b"]), ["a-b", "a-b-2", "a-b-3"]);
        assert_eq!(names(&["..", ".", "../x", ".ssh"]), ["-.", "-", "-.-x", "-ssh"]);
        assert_eq!(names(&["report.html", "ü"]), ["report.html-2", "-"]);
        assert_eq!(names(&[&"x".repeat(1_000)])[0].len(), NAME_BYTES_MAX);
    }

    #[test]
    fn earlier_results_are_kept_under_another_name() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("results");
        let variant = [out.join("w4"), out.join("w3")];
        assert_eq!(prepare(&out, &variant).unwrap(), None);
        // Nothing was measured: there is nothing to keep.
        assert_eq!(prepare(&out, &variant).unwrap(), None);
        fs::write(out.join("w4/run.json"), "first").unwrap();
        assert_eq!(prepare(&out, &variant).unwrap(), Some(place.path().join("results.1")));
        fs::write(out.join("w4/run.json"), "second").unwrap();
        fs::write(out.join("report.html"), "").unwrap();
        assert_eq!(prepare(&out, &variant).unwrap(), Some(place.path().join("results.2")));
        let read = |path: &str| fs::read_to_string(place.path().join(path)).unwrap();
        assert_eq!(
            (read("results.1/w4/run.json"), read("results.2/w4/run.json")),
            ("first".into(), "second".into())
        );
        assert!(!out.join("w4/run.json").exists());
    }

    #[test]
    fn a_directory_with_other_files_is_not_renamed() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("home");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("letter.txt"), "").unwrap();
        assert_eq!(prepare(&out, &[]).unwrap(), None);
        fs::write(out.join("run.json"), "").unwrap();
        let error = prepare(&out, &[]).unwrap_err().to_string();
        assert!(error.contains("letter.txt"), "{error}");
        assert!(out.join("run.json").exists());
    }

    #[test]
    fn what_cannot_be_written_to_is_found_before() {
        for path in ["/proc/nope", "/dev/null/x"] {
            assert!(prepare(Path::new(path), &[]).is_err(), "{path}");
        }
    }
}
