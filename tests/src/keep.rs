//! Child processes that cannot outlive the tests.
//!
//! Shared fixtures live in statics, which are never dropped, and a test process may be killed with SIGKILL. So each child has a
//! watcher: a shell that reads from a pipe whose other end is in this process. When the pipe breaks, for whatever reason,
//! the shell ends the child.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A signal, by the name that `kill` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends a process at once, without any chance to clean up.
    Kill,
    /// Asks politely.
    Term,
    /// To Postgres: disconnect everyone and shut down cleanly.
    Int,
    /// To Postgres: stop at once, but leave no shared memory behind.
    Quit,
    /// Stands still until told to go on.
    Stop,
    /// Goes on.
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A child process and its watcher.
#[derive(Debug)]
pub struct Kept {
    child: Child,
    watcher: Child,
}

impl Kept {
    /// Starts `command`; when this process ends, the child gets `last_signal`.
    ///
    /// Both run in process groups of their own, so that Ctrl-C reaches this process alone and the watcher does the rest.
    pub fn spawn(command: &mut Command, last_signal: Signal) -> Self {
        let child = command.stdin(Stdio::null()).process_group(0).spawn().unwrap_or_else(|error| {
            panic!("cannot start {}: {error}", command.get_program().display())
        });
        let watcher = Command::new("sh")
            .args(["-c", r#"read -r _ || kill -s "$1" "$2""#, "watcher", last_signal.name()])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, watcher }
    }

    /// The process ID of the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the child has ended by itself.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let done = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "signal", signal.name()])
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success(), "cannot send SIG{} to process {}", signal.name(), self.child.id());
    }

    /// Sends a signal and waits for the child to end; after ten seconds it is killed.
    /// Returns whether it ended by itself.
    pub fn stop(mut self, signal: Signal) -> bool {
        self.signal(signal);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if self.exited().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Errors here mean that the process has ended already, which is all that is wanted.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        // A whole line tells the watcher to leave quietly: by now another process may have the child's number.
        if let Some(mut pipe) = self.watcher.stdin.take() {
            let _told = pipe.write_all(b"\n");
        }
        let _left = self.watcher.wait();
    }
}
