//! The unix sockets of vhost-user and memif ports, before their drivers come.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;

use crate::error::Error;

/// Checks that the folder of a socket exists, and removes a socket there that an earlier process has left. The driver is to
/// make it, unless `client`.
///
/// # Errors
/// Without the folder, or when something else than a socket is there.
pub(super) fn prepare(path: &Path, client: bool) -> Result<(), Error> {
    let fail = |doing, source| Error::Socket { doing, path: path.to_owned(), source };
    if let Some(folder) = path.parent()
        && !folder.is_dir()
    {
        let source = io::Error::other(format!("there is no folder {}", folder.display()));
        return Err(fail("use", source));
    }
    if client {
        return Ok(());
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(fail("make", io::Error::other("something that is not a socket is there; remove it")))
        }
        Ok(_) if is_stale(path) => fs::remove_file(path).map_err(|source| fail("remove a stale", source)),
        // One that lives is another memif's of ours, or the driver says that it cannot have it.
        _ => Ok(()),
    }
}

/// Checks that somebody listens at a socket.
///
/// # Errors
/// When nobody does.
pub(super) fn expect_server(path: &Path) -> Result<(), Error> {
    if path.exists() && !is_stale(path) {
        return Ok(());
    }
    let source = io::Error::other("the other side does not listen there");
    Err(Error::Socket { doing: "connect to", path: path.to_owned(), source })
}

/// Nobody listens. Asked with the wrong kind of socket, so that who does listen notices nothing.
fn is_stale(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    asked.is_err_and(|error| error.raw_os_error() == Some(Errno::ECONNREFUSED as i32))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_what_is_stale_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        prepare(&path, false).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        prepare(&path, false).unwrap();
        assert!(path.exists(), "somebody listens");
        expect_server(&path).unwrap();
        drop(listener);
        expect_server(&path).unwrap_err();
        prepare(&path, true).unwrap();
        assert!(path.exists(), "a client removes nothing");
        prepare(&path, false).unwrap();
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        let error = prepare(&path, false).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        let error = prepare(&folder.path().join("none/s"), true).unwrap_err().to_string();
        assert!(error.contains("there is no folder"), "{error}");
    }
}
