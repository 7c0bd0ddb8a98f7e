//! Finds the PostgreSQL programs on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Error, cluster};

/// One installation of PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    directory: PathBuf,
    /// As in `PG_VERSION`: `15`.
    version: String,
}

impl Binaries {
    /// Takes what `PG_BIN` names, then what is on the `PATH`, then the newest of Debian's. An
    /// existing cluster can only be run by the version that made it.
    pub(super) fn find(wanted: Option<&str>, data_dir: &Path) -> Result<Self, Error> {
        let installed: Vec<Self> = directories().into_iter().filter_map(Self::at).collect();
        match wanted {
            None => installed.into_iter().next().ok_or(Error::NoBinaries),
            Some(version) => installed
                .into_iter()
                .find(|binaries| binaries.version == version)
                .ok_or_else(|| Error::WrongVersion {
                    cluster: cluster::directory(data_dir),
                    version: version.to_owned(),
                }),
        }
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn at(directory: PathBuf) -> Option<Self> {
        if !directory.join("initdb").is_file() || !directory.join("pg_ctl").is_file() {
            return None;
        }
        let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
        let version = major_version(&String::from_utf8(output.stdout).ok()?)?;
        Some(Self { directory, version })
    }
}

fn directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> =
        env::var_os("PG_BIN").into_iter().map(PathBuf::from).collect();
    directories.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));

    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    debian.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    directories.extend(debian.into_iter().map(|(_, directory)| directory));
    directories
}

/// `15` of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, `18` of `… 18beta1`.
fn major_version(text: &str) -> Option<String> {
    let number = text.split_once("(PostgreSQL)")?.1.trim_start();
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    (!major.is_empty()).then_some(major)
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn versions() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some("15")),
            ("postgres (PostgreSQL) 18beta1\n", Some("18")),
            ("postgres (PostgreSQL) \n", None),
            ("something else 15\n", None),
        ] {
            assert_eq!(major_version(text).as_deref(), expected, "{text}");
        }
    }
}
