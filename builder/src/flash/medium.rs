//! What a medium can do, and how its failures are told.

use crate::error::Error;
use rustix::io::Errno;
use std::io::{self, ErrorKind};

/// Something that holds bytes at fixed places and keeps them: a card, a stick, a disk, or what a test puts in its place.
pub trait Medium {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Reads into `buffer` what is at byte `offset`, and gives how many bytes that were: fewer than asked for, perhaps.
    ///
    /// # Errors
    ///
    /// What the device says.
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `data` to byte `offset`, and gives how many bytes were written: fewer than asked for, perhaps.
    ///
    /// # Errors
    ///
    /// What the device says.
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<usize>;

    /// Returns when everything written so far would outlast a power cut.
    ///
    /// # Errors
    ///
    /// What the device says: then anything written since the last call may be lost.
    fn sync(&mut self) -> io::Result<()>;

    /// Forgets what this machine remembers of the medium, so that the next reads ask the medium itself.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn drop_cache(&mut self) -> io::Result<()>;
}

/// Reads all of `buffer`.
pub(super) fn read_all(medium: &mut impl Medium, buffer: &mut [u8], offset: u64) -> Result<(), Failure> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset + done as u64;
        match medium.read_at(rest, at) {
            Ok(0) => return Err(Failure { doing: "read", at, error: ErrorKind::UnexpectedEof.into() }),
            Ok(count) => done += count.min(rest.len()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure { doing: "read", at, error }),
        }
    }
    Ok(())
}

/// Writes all of `data`.
pub(super) fn write_all(medium: &mut impl Medium, data: &[u8], offset: u64) -> Result<(), Failure> {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let at = offset + done as u64;
        match medium.write_at(rest, at) {
            Ok(0) => return Err(Failure { doing: "write", at, error: ErrorKind::WriteZero.into() }),
            Ok(count) => done += count.min(rest.len()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure { doing: "write", at, error }),
        }
    }
    Ok(())
}

/// A medium that did not do what it was asked to.
#[derive(Debug)]
pub(super) struct Failure {
    /// What it was asked to do.
    pub(super) doing: &'static str,
    /// The byte of the medium.
    pub(super) at: u64,
    pub(super) error: io::Error,
}

impl Failure {
    /// The error, with what lies at the place (`inside`, such as a partition's name).
    pub(super) fn told(self, inside: Option<&str>) -> Error {
        let inside = inside.map_or(String::new(), |inside| format!(", in {inside}"));
        let help = help(&self.error);
        Error::new(format!("the medium cannot be {} at byte {:#x}{inside}", past(self.doing), self.at))
            .because(self.error)
            .help(help)
    }
}

/// What to do about a medium that said this.
pub(super) fn help(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM) => {
            "the medium is not there any more: put it back in"
        }
        Some(Errno::NOSPC) => "the medium ends here, whatever size it says that it has: take another one",
        Some(Errno::ROFS | Errno::PERM | Errno::ACCESS) => {
            "the medium lets nobody write: look for a switch on it"
        }
        _ => {
            "it was pulled out, or it is worn out or broken, or its reader or cable is: if this comes back, take another one"
        }
    }
}

fn past(doing: &str) -> &str {
    match doing {
        "write" => "written",
        other => other,
    }
}
