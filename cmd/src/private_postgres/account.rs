//! The user whom the private Postgres runs as: ourselves, or an unprivileged one if we are root,
//! because Postgres refuses to run as root.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Error;

/// Whom a root process may become, the best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user to run programs as.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    /// User and group to become. `None` means to stay who we are.
    become_ids: Option<(u32, u32)>,
    /// The user whom `syncv3` itself runs as, and connects as.
    pub(super) own_name: String,
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    // The standard library has no `geteuid`, but what we own tells: Linux gives a process's own
    // directory in `/proc` to its effective user.
    match fs::metadata("/proc/self") {
        Ok(metadata) => metadata.uid() == 0,
        Err(_) => id(&["-u"]).as_deref() == Some("0"),
    }
}

impl Account {
    /// Chooses whom to run as.
    pub(super) fn choose() -> Result<Self, Error> {
        let own_name = id(&["-un"]).ok_or(Error::NoAccount)?;
        if !is_root() {
            return Ok(Self { name: own_name.clone(), become_ids: None, own_name });
        }
        CANDIDATES
            .iter()
            .find_map(|&name| {
                let user = id(&["-u", name])?.parse().ok().filter(|&user: &u32| user != 0)?;
                let group = id(&["-g", name])?.parse().ok()?;
                Some(Self {
                    name: name.to_owned(),
                    become_ids: Some((user, group)),
                    own_name: own_name.clone(),
                })
            })
            .ok_or(Error::NoAccount)
    }

    /// A command that runs as this user, with nothing of our environment: it holds secrets, and
    /// `PG…` variables would change what the programs do.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        for name in ["PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some((user, group)) = self.become_ids {
            command.uid(user).gid(group);
        }
        command
    }

    /// Gives a file or directory to this user.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        let Some((user, group)) = self.become_ids else {
            return Ok(());
        };
        chown(path, Some(user), Some(group)).map_err(|source| Error::File {
            action: "change the owner of",
            path: path.to_owned(),
            source,
        })
    }

    /// Makes sure that this user can reach a directory through all that are above it.
    pub(super) fn must_reach(&self, directory: &Path) -> Result<(), Error> {
        if self.become_ids.is_none() || self.may_pass(directory) {
            return Ok(());
        }
        let barred = directory.ancestors().filter(|ancestor| !self.may_pass(ancestor)).last();
        Err(Error::Impassable {
            user: self.name.clone(),
            directory: barred.map_or_else(|| directory.to_owned(), PathBuf::from),
        })
    }

    fn may_pass(&self, directory: &Path) -> bool {
        self.command(Path::new("test"))
            .arg("-x")
            .arg(directory)
            .status()
            .is_ok_and(|status| status.success())
    }
}

fn id(args: &[&str]) -> Option<String> {
    let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
