//! The unix socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};

use crate::error::Error;

/// Listens at `path`. A socket that an earlier process left is replaced; one that somebody answers on is not, nor is
/// anything that is not a socket. Only the owner may use it, and the members of `group` when one is given.
///
/// # Errors
/// When the path is taken, there is no such group, or the system refuses.
pub fn listen(path: &Path, group: Option<&str>) -> Result<UnixListener, Error> {
    let fail = |doing| move |source| Error::Socket { doing, path: path.to_owned(), source };
    let gid = match group {
        Some(name) => {
            let found = Group::from_name(name).map_err(|errno| fail("look up the group of")(errno.into()))?;
            Some(found.ok_or_else(|| Error::NoGroup { group: name.to_owned() })?.gid)
        }
        None => None,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fail("make the directory of"))?;
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(fail("listen at")(io::Error::other(
                "something that is not a socket is there; remove it",
            )));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(fail("listen at")(io::Error::other("another process serves it")));
        }
        Ok(_) | Err(_) => {}
    }
    // Under another name first: nobody finds the socket before its mode is right, and the replacement is atomic.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(fail("bind"))?;
    let set_up = || -> io::Result<()> {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(if gid.is_some() { 0o660 } else { 0o600 }))?;
        if gid.is_some() {
            chown(&fresh, None, gid)?;
        }
        listener.set_nonblocking(true)?;
        fs::rename(&fresh, path)
    };
    match set_up() {
        Ok(()) => Ok(listener),
        Err(source) => {
            let _ = fs::remove_file(&fresh);
            Err(fail("set up")(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_stale_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/socket");
        let first = listen(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = listen(&path, None).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(first);
        let second = listen(&path, None).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(second);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        listen(&path, None).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(
            listen(&folder.path().join("x"), Some("no such group"))
                .unwrap_err()
                .to_string()
                .contains("no such group")
        );
    }
}
