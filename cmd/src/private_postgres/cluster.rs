//! The files of the private Postgres, inside the data directory:
//!
//! - `postgres/` the cluster, which appears complete or not at all;
//! - `postgres.log` what the server says;
//! - `socket/` its socket, unless the path is too long for one.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Error, NAME, account::Account, binaries::Binaries};

/// A cluster that is ready to be run.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) data_dir: PathBuf,
    pub(super) directory: PathBuf,
}

/// Where the cluster of a data directory lies.
pub(super) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// The version of PostgreSQL that made the cluster; `None` before first use.
pub(super) fn version(data_dir: &Path) -> Result<Option<String>, Error> {
    let path = directory(data_dir).join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(version) => Ok(Some(version.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { action: "read", path, source }),
    }
}

impl Cluster {
    /// Opens the cluster of a data directory, and makes it on first use.
    pub(super) fn open(
        data_dir: &Path,
        binaries: &Binaries,
        account: &Account,
    ) -> Result<Self, Error> {
        let cluster = Self { data_dir: data_dir.to_owned(), directory: directory(data_dir) };
        account.must_reach(data_dir)?;
        if version(data_dir)?.is_none() {
            tracing::info!(directory = %cluster.directory.display(), "making a private Postgres");
            cluster.make(binaries, account)?;
        }
        cluster.admit(account)?;
        Ok(cluster)
    }

    /// Makes the cluster under another name first: if we are killed meanwhile, the half-made one is
    /// recognised by its name and thrown away.
    fn make(&self, binaries: &Binaries, account: &Account) -> Result<(), Error> {
        let draft = self.data_dir.join("postgres.new");
        if draft.exists() {
            fs::remove_dir_all(&draft).map_err(file("remove", &draft))?;
        }
        make_private_directory(&draft, account)?;

        let mut initdb = account.command(&binaries.program("initdb"));
        initdb
            .args(["--encoding=UTF8", "--locale=C", "--auth=peer", "--data-checksums"])
            .arg(format!("--username={NAME}"))
            .arg("--pgdata")
            .arg(&draft);
        run(initdb, "")?;

        let mut single = account.command(&binaries.program("postgres"));
        single.arg("--single").arg("-D").arg(&draft).arg("postgres");
        run(single, &format!("CREATE DATABASE {NAME}\n"))?;

        fs::rename(&draft, &self.directory).map_err(file("name", &self.directory))
    }

    /// Lets in the user whom `syncv3` runs as, who may be root, and the owner of the cluster, under
    /// the one role there is; nobody else. Written at every start, because that user can change.
    fn admit(&self, account: &Account) -> Result<(), Error> {
        let line = |user: &str| format!("{NAME} {} {NAME}\n", quoted(user));
        let mut users = line(&account.name);
        if account.own_name != account.name {
            users.push_str(&line(&account.own_name));
        }
        self.write("pg_hba.conf", &format!("local all {NAME} peer map={NAME}\n"), account)?;
        self.write("pg_ident.conf", &users, account)
    }

    fn write(&self, name: &str, text: &str, account: &Account) -> Result<(), Error> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(file("write", &path))?;
        account.give(&path)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }
}

/// Makes a directory that only one user may enter.
pub(super) fn make_private_directory(path: &Path, account: &Account) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(file("protect", path))?;
        }
        Err(source) => return Err(file("make the directory", path)(source)),
    }
    account.give(path)
}

/// Names the file in an I/O error.
pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

/// Runs a command to its end. What it says on stderr becomes the error.
pub(super) fn run(mut command: Command, input: &str) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    let fault = |source| Error::Run { program: program.clone(), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fault)?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input.as_bytes())
    {
        // It ended without reading; its status tells more than the broken pipe does.
        tracing::debug!("{} did not read its input: {error}", program.display());
    }
    let output = child.wait_with_output().map_err(fault)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " / ");
    Err(Error::Failed { program, said })
}

/// A name as `pg_ident.conf` takes it, whatever characters are in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
