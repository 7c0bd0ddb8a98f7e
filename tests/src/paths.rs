//! Where things are: the repository, the binary under test, scratch directories and free ports.

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The `syncv3` binary of the profile these tests were built with.
///
/// Cargo does not build another package's binary for a test, so `cargo build` must have run before; `tests/run` does that.
pub fn syncv3() -> PathBuf {
    let test_binary = std::env::current_exe().unwrap();
    let profile = test_binary.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("syncv3");
    assert!(
        binary.exists(),
        "{} does not exist: run `cargo build --workspace` with the profile of the tests first, or use tests/run",
        binary.display()
    );
    binary
}

/// A new empty directory for one fixture. It goes when the test process ends, unless `TEST_KEEP` is set.
pub fn scratch(name: &str) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = scratch_root().join(format!("{name}-{number}"));
    fs::create_dir_all(&path).unwrap();
    path
}

/// A TCP port on loopback that nobody listens on, and that no earlier call has handed out.
pub fn free_port() -> u16 {
    static HANDED_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut handed_out = HANDED_OUT.lock().unwrap();
    let handed_out = handed_out.get_or_insert_default();
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if handed_out.insert(port) {
            return port;
        }
    }
}

/// The last lines of a log file, for the report of a failed test.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The directory that holds everything of this test process. A shell waits for this process to end and removes it.
fn scratch_root() -> &'static Path {
    static ROOT: OnceLock<(PathBuf, Option<Child>)> = OnceLock::new();
    let (root, _janitor) = ROOT.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("syncv3-tests-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        if std::env::var_os("TEST_KEEP").is_some() {
            eprintln!("keeping {}", root.display());
            return (root, None);
        }
        // The children may still be writing while they die, so removing is tried again for a while.
        let script =
            r#"read -r _; for try in 1 2 3 4 5 6 7 8 9; do rm -rf "$1" && exit; sleep 1; done"#;
        let janitor = Command::new("sh")
            .args(["-c", script, "janitor"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        (root, Some(janitor))
    });
    root
}
