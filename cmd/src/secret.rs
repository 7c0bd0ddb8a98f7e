//! The key that seals access tokens in the database.
//!
//! Whatever its source, the secret is any text, and the key is its SHA-256. So the text of a key
//! file can be moved to `-secret` or `-secret-file` of another machine, and opens the same tokens.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use crate::config::SecretSource;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read the secret from `{path}`", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{path}` is empty: put the secret there, or remove it to have one made", path = path.display())]
    Empty { path: PathBuf },
    #[error("cannot make the key file `{path}`; give a secret with `-secret`, or a writable `-data-dir`", path = path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The key, from a key file that is made now if need be.
pub(crate) fn read_or_make(source: &SecretSource) -> Result<[u8; 32], Error> {
    if let Some(key) = read(source)? {
        return Ok(key);
    }
    if let SecretSource::Generated(path) = source {
        make(path)?;
        tracing::info!(
            "made a secret in `{}`: keep it with your backups, for the tokens in the database open with it alone",
            path.display()
        );
    }
    read(source)?.ok_or(Error::NoRandomness)
}

/// The key; `None` where the key file is still to be made.
pub(crate) fn read(source: &SecretSource) -> Result<Option<[u8; 32]>, Error> {
    match source {
        SecretSource::Given(secret) => Ok(Some(key_of(secret.reveal()))),
        SecretSource::File(path) => read_file(path).map(Some),
        SecretSource::Generated(path) => match read_file(path) {
            Err(Error::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            read => read.map(Some),
        },
    }
}

fn read_file(path: &Path) -> Result<[u8; 32], Error> {
    let text = fs::read_to_string(path)
        .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    // Editors end a file with a newline that nobody means to be part of the secret.
    match text.trim_end() {
        "" => Err(Error::Empty { path: path.to_owned() }),
        secret => Ok(key_of(secret)),
    }
}

fn key_of(secret: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    key
}

/// Makes a key file that only we can read. It appears whole or not at all, and an existing one is
/// never replaced: without the old key, all stored tokens would be lost.
fn make(path: &Path) -> Result<(), Error> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    let text = base16(&bytes);

    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = write_draft(&draft, &text).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    // If it cannot be removed it is in nobody's way.
    let _ = fs::remove_file(&draft);
    written.map_err(|source| Error::Unwritable { path: path.to_owned(), source })
}

fn base16(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).flatten().collect()
}

fn write_draft(draft: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = draft.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_for_us_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("syncv3-secret-{}", std::process::id()));
        let path = directory.join("deep/secret.key");
        let source = SecretSource::Generated(path.clone());

        assert!(matches!(read(&source), Ok(None)));
        let key = read_or_make(&source).expect("the file can be made");
        assert_eq!(read_or_make(&source).expect("the file is there"), key);
        make(&path).expect("an existing file is no fault");
        assert_eq!(read(&source).expect("the file is there"), Some(key));

        let mode = fs::metadata(&path).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("the file is there");
        assert_eq!(key_of(text.trim_end()), key, "its text means the same as `-secret`");

        fs::write(&path, "\n").expect("the file can be written");
        assert!(matches!(read(&source), Err(Error::Empty { .. })));
        fs::remove_dir_all(&directory).expect("the directory can be removed");
    }

    #[test]
    fn a_given_file_must_exist() {
        let source = SecretSource::File(PathBuf::from("/nowhere/secret"));
        assert!(matches!(read_or_make(&source), Err(Error::Unreadable { .. })));
    }
}
