//! How many files and connections this process and its children may have open.

use std::process::Command;

/// Raises the limit as far as the administrator allows, and says how far that is.
pub fn allow_many() -> u64 {
    let (mut soft, hard) = limits();
    if soft < hard {
        let me = std::process::id().to_string();
        let raised = Command::new("prlimit")
            .args(["--pid", &me, &format!("--nofile={hard}:{hard}")])
            .status();
        if raised.is_ok_and(|status| status.success()) {
            soft = limits().0;
        }
    }
    soft
}

/// What is in force, and how far it may be raised.
fn limits() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut limits = line.split_whitespace().map(|limit| limit.parse().unwrap_or(u64::MAX));
    (limits.next().unwrap(), limits.next().unwrap())
}
