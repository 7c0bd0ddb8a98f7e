//! `postmaster.pid`: what a running server writes about itself, and a killed one leaves behind.
//!
//! Its lines are: process number, data directory, start time, port, socket directory, address,
//! shared memory key, status. The last ones appear while the server starts.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) path: PathBuf,
    pub(super) pid: u32,
    pub(super) socket_dir: PathBuf,
    status: String,
    port: String,
}

impl PidFile {
    /// Reads the file of a cluster; `None` if there is none, or none that makes sense.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        let path = cluster.join("postmaster.pid");
        let text = fs::read_to_string(&path).ok()?;
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let line = |index: usize| lines.get(index).copied().unwrap_or_default();
        Some(Self {
            path,
            pid: line(0).trim_start_matches('-').parse().ok()?,
            port: line(3).to_owned(),
            socket_dir: PathBuf::from(line(4)),
            status: line(7).to_owned(),
        })
    }

    /// Whether the server says that it takes sessions.
    pub(super) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    /// Whether somebody listens on the socket. The directory is private, so it is the server.
    pub(super) fn answers(&self) -> bool {
        let socket = self.socket_dir.join(format!(".s.PGSQL.{}", self.port));
        self.socket_dir.is_absolute() && UnixStream::connect(socket).is_ok()
    }

    pub(super) fn process_exists(&self) -> bool {
        Path::new("/proc").join(self.pid.to_string()).exists()
    }

    /// Whether the process number is certainly somebody else's by now, and no process is left that
    /// works in the cluster: a server and all its children have it for their working directory.
    pub(super) fn is_of_another_process(&self, cluster: &Path) -> bool {
        let Ok(cluster) = cluster.canonicalize() else {
            return false;
        };
        let proc = Path::new("/proc");
        // Without the right to look, the process may be the server.
        let Ok(place) = working_directory(&proc.join(self.pid.to_string())) else {
            return false;
        };
        place != cluster && !anybody_works_in(proc, &cluster)
    }
}

fn working_directory(process: &Path) -> io::Result<PathBuf> {
    fs::read_link(process.join("cwd"))
}

fn anybody_works_in(proc: &Path, directory: &Path) -> bool {
    fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| working_directory(&entry.path()).is_ok_and(|place| place == directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u32, &str, bool)>) {
        let parsed = PidFile::parse(PathBuf::new(), text);
        let parsed = parsed.as_ref().map(|file| {
            let socket_dir = file.socket_dir.to_str().expect("the path is text");
            (file.pid, socket_dir, file.is_ready())
        });
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn states_of_the_file() {
        let ready = "41\n/d/postgres\n1700000000\n5432\n/d/socket\n\n  1 2\nready   \n";
        check(ready, Some((41, "/d/socket", true)));
        check(&ready.replace("ready   ", "stopping"), Some((41, "/d/socket", false)));
        check("41\n/d/postgres\n1700000000\n5432\n", Some((41, "", false)));
        check("", None);
        check("x\n", None);
    }
}
