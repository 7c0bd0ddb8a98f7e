//! A library that is preloaded into a process under test: its clock can be set wrong, and its disk be full.
//!
//! `tests/faults/shim.c` says what exactly; this compiles it, and writes the numbers that it reads.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tokio::sync::OnceCell;

use crate::paths;

/// What one process, or several that share a machine, are made to believe.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    path: PathBuf,
    control: File,
}

impl Shim {
    /// One that changes nothing yet.
    pub async fn new() -> Self {
        static LIBRARY: OnceCell<PathBuf> = OnceCell::const_new();
        let library = LIBRARY.get_or_init(async || compile()).await.clone();
        let path = paths::scratch("shim").join("control");
        fs::write(&path, [0; 16]).unwrap();
        let control = File::options().write(true).open(&path).unwrap();
        Self { library, path, control }
    }

    /// The variables with which a process comes under it.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("SHIM_CONTROL".to_owned(), self.path.display().to_string()),
        ]
    }

    /// From now on the time of day is so many seconds off.
    pub fn shift_clock(&self, seconds: i64) {
        self.control.write_all_at(&(seconds * 1_000).to_ne_bytes(), 0).unwrap();
    }

    /// From now on no file can grow; or they can again.
    pub fn fill_disk(&self, full: bool) {
        self.control.write_all_at(&i64::from(full).to_ne_bytes(), 8).unwrap();
    }
}

fn compile() -> PathBuf {
    let library = paths::scratch("shim").join("shim.so");
    let source = paths::repository().join("tests/faults/shim.c");
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .expect("there is a C compiler");
    assert!(done.success(), "the shim does not compile");
    library
}
