//! The seeds: real inputs, a file each, in a directory for each kind.

use std::fs;

use crate::paths;

/// The files of `tests/fuzz-corpus/{kind}`, in the order of their names.
pub fn corpus(kind: &str) -> Vec<String> {
    let directory = paths::repository().join("tests/fuzz-corpus").join(kind);
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seed", directory.display());
    files.iter().map(|file| fs::read_to_string(file).unwrap().trim_end().to_owned()).collect()
}
