//! Arguments of benchmarks: numbers, after the options that cargo gives.

use std::num::ParseIntError;

/// Whether cargo runs the program to measure, not to test it.
pub(crate) fn is_bench() -> bool {
    std::env::args().any(|word| word == "--bench")
}

/// The first numbers given; those that are not given are as usual.
///
/// # Errors
/// One of them is no number.
pub(crate) fn numbers<const N: usize>(usual: [usize; N]) -> Result<[usize; N], ParseIntError> {
    let words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let mut numbers = usual;
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse()?;
    }
    Ok(numbers)
}
