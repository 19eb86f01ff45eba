//! A detached signature of an image's statement, by OpenSSH's `ssh-keygen -Y` (ssh-keygen(1)), whose keys people have.

use crate::companions::remove;
use crate::error::{Error, Result, ResultExt};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the signature is for: one of another namespace is not taken for it.
pub const NAMESPACE: &str = "vambrace";

/// Signs the file at `path` with `key`, a private key or a public one whose private half ssh-agent has, into `path.sig`,
/// and gives the path of that.
///
/// # Errors
///
/// No such key, no ssh-keygen, or what that says.
pub fn sign(path: &Path, key: &Path) -> Result<PathBuf> {
    sign_by("ssh-keygen", path, key)
}

fn sign_by(program: &str, path: &Path, key: &Path) -> Result<PathBuf> {
    if !key.is_file() {
        return Err(Error::new("there is no such key to sign with")
            .at(key)
            .help("make one with `ssh-keygen -t ed25519 -f FILE`, and name its file with --sign"));
    }
    let mut signature = path.as_os_str().to_owned();
    signature.push(".sig");
    let signature = PathBuf::from(signature);
    // ssh-keygen would ask whether to write over it.
    remove(&signature)?;
    // A name that begins with a dash would be taken for an option.
    let (path, key) = (absolute(path)?, absolute(key)?);
    let output = Command::new(program)
        .args(["-Y", "sign", "-n", NAMESPACE, "-f"])
        .args([&key, &path])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            let missing = error.kind() == ErrorKind::NotFound;
            let failed = Error::new(format!("cannot run {program}, which signs")).because(error);
            if missing { failed.help("on Debian: apt-get install openssh-client") } else { failed }
        })?;
    if !output.status.success() || !signature.is_file() {
        return Err(Error::new(format!("{program} cannot sign with this key ({})", output.status))
            .at(&key)
            .snippet(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(signature)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context_at(path, || "cannot find the file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("x.json"), dir.path().join("key"));
        fs::write(&path, "x").unwrap();
        let said = sign(&path, &key).unwrap_err().report();
        assert!(said.contains("key: there is no such key") && said.contains("--sign"), "{said}");
        fs::write(&key, "no key").unwrap();
        let said = sign_by("no-such-program", &path, &key).unwrap_err().report();
        assert!(said.contains("cannot run no-such-program") && said.contains("openssh-client"), "{said}");
        // A machine without ssh-keygen says that instead.
        let said = sign(&path, &key).unwrap_err().report();
        assert!(said.contains("cannot sign with this key") || said.contains("openssh-client"), "{said}");
    }
}
