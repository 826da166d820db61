//! CSV files as `homa bench cluster` writes them: one header line, no quotes. Lines are read one by
//! one and with a limit, so that a damaged file costs neither memory nor the report.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 1_024;

/// What reading a file brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Lines taken.
    pub taken: u64,
    /// Lines left out since they are damaged.
    pub damaged: u64,
}

/// Hands the columns of these names of each line to `take`, which says whether it could use them.
///
/// # Errors
/// What the system says; a column that the file does not have.
pub(crate) fn read<const N: usize>(
    path: &Path,
    columns: [&str; N],
    mut take: impl FnMut([&str; N]) -> bool,
) -> io::Result<Tally> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut line = Vec::new();
    next_line(&mut reader, &mut line)?;
    let places = places(&line, columns)?;
    let mut tally = Tally::default();
    while next_line(&mut reader, &mut line)? {
        match pick(&line, &places).is_some_and(&mut take) {
            true => tally.taken += 1,
            false => tally.damaged += 1,
        }
    }
    Ok(tally)
}

/// Reads the next line, or as much of it as may be long; `false` at the end of the file.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)? > 0)
}

fn places<const N: usize>(header: &[u8], columns: [&str; N]) -> io::Result<[usize; N]> {
    let header = String::from_utf8_lossy(header);
    let names: Vec<&str> = header.trim_end().split(',').collect();
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = names.iter().position(|name| *name == column).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("there is no column `{column}`"))
        })?;
    }
    Ok(places)
}

/// The fields at these places; none if the line is not whole, as the last of a file whose writer
/// was stopped.
fn pick<'a, const N: usize>(line: &'a [u8], places: &[usize; N]) -> Option<[&'a str; N]> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let mut fields = [None; N];
    for (index, field) in text.split(',').enumerate() {
        for (place, found) in places.iter().zip(&mut fields) {
            if *place == index {
                *found = Some(field);
            }
        }
    }
    let complete = fields.iter().all(Option::is_some);
    complete.then(|| fields.map(Option::unwrap_or_default))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &[u8]) -> io::Result<(Vec<(String, u64)>, Tally)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut found = Vec::new();
        let tally = read(file.path(), ["name", "bytes"], |[name, bytes]| {
            let bytes = bytes.parse();
            found.extend(bytes.iter().map(|bytes| (name.to_owned(), *bytes)));
            bytes.is_ok()
        })?;
        Ok((found, tally))
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let (found, tally) = fields(b"bytes,more,name\n5,x,a\n6,y,b\n").unwrap();
        assert_eq!(found, [("a".to_owned(), 5), ("b".to_owned(), 6)]);
        assert_eq!(tally, Tally { taken: 2, damaged: 0 });
    }

    #[test]
    fn damaged_lines_are_counted_and_left_out() {
        let mut text = b"name,bytes\na,1\nb\nc,many\n\xff,2\n".to_vec();
        text.extend([b'x'; 5_000]);
        text.extend(b"\nd,4\ne,5");
        let (found, tally) = fields(&text).unwrap();
        assert_eq!(found, [("a".to_owned(), 1), ("d".to_owned(), 4)]);
        assert!(tally.damaged >= 5, "{tally:?}");
    }

    #[test]
    fn a_missing_column_is_an_error_that_names_it() {
        let error = fields(b"name,octets\na,1\n").unwrap_err().to_string();
        assert!(error.contains("bytes"), "{error}");
    }
}
