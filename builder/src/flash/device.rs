//! A disk of this machine as a medium.

use super::disk::Disk;
use super::medium::Medium;
use crate::error::{Error, Result, ResultExt};
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl, major, minor};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

/// Bytes that are read or written at once.
const WINDOW: usize = 1 << 20;
/// What a buffer's place in memory is a multiple of, for any device.
const ALIGNMENT: usize = 4096;
/// Where writing goes through the cache, it is brought onto the device each time after so many bytes: an error then
/// shows near its place.
const UNSYNCED: u64 = 8 << 20;

/// A disk that nobody else has: the kernel lets nobody mount it meanwhile.
#[derive(Debug)]
pub(super) struct Device {
    file: File,
    size: u64,
    block: usize,
    /// Whether reads and writes pass the kernel's cache by.
    direct: bool,
    /// Holds [`WINDOW`] bytes at the place [`Device::window`], a multiple of [`ALIGNMENT`] in memory.
    buffer: Vec<u8>,
    window: usize,
    unsynced: u64,
}

impl Device {
    /// Opens `disk`, whose blocks have `block` bytes, for this process alone.
    ///
    /// # Errors
    ///
    /// A disk that is in use, one that may not be opened, and one that is not the `disk` that was looked at.
    pub(super) fn open(disk: &Disk, block: usize) -> Result<Self> {
        let path = &disk.path;
        let open = |flags: OFlags| {
            let flags = i32::try_from((OFlags::EXCL | flags).bits()).unwrap_or_default();
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
        };
        let opened = match open(OFlags::DIRECT) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                open(OFlags::empty()).map(|file| (file, false))
            }
            opened => opened.map(|file| (file, true)),
        };
        let (mut file, direct) = opened.map_err(|error| {
            let help = match Errno::from_io_error(&error) {
                Some(Errno::BUSY) => {
                    "something uses it, perhaps in a container: unmount it there, or end that"
                }
                Some(Errno::ACCESS | Errno::PERM) => {
                    "be root, or in the group that the disk belongs to (`ls -l` shows it)"
                }
                Some(Errno::ROFS) => "the medium is read-only: look for a switch on it",
                _ => "is it still there?",
            };
            Error::new("cannot open the disk for writing").because(error).at(path).help(help)
        })?;
        let number = file.metadata().context_at(path, || "cannot look at the disk")?.rdev();
        let size = file.seek(SeekFrom::End(0)).context_at(path, || "cannot tell the disk's size")?;
        if format!("{}:{}", major(number), minor(number)) != disk.number || size != disk.size {
            return Err(Error::new("this is another disk than a moment ago").at(path).help("run this again"));
        }
        let buffer = vec![0; WINDOW + ALIGNMENT];
        let window = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let block = if block.is_power_of_two() && block <= ALIGNMENT { block } else { ALIGNMENT };
        Ok(Self { file, size, block, direct, buffer, window, unsynced: 0 })
    }

    /// The blocks that hold up to [`WINDOW`] of the `length` bytes from `offset` on: the first one's place, their bytes,
    /// and how many bytes of the first one come before `offset`.
    fn blocks(&self, offset: u64, length: usize) -> (u64, usize, usize) {
        let front = usize::try_from(offset % self.block as u64).unwrap_or(0);
        let length = (front + length).min(WINDOW).next_multiple_of(self.block);
        (offset - front as u64, length, front)
    }

    /// Does something with the file, and does it again through the cache if the device wants other alignments than it
    /// says.
    fn retried(&mut self, mut act: impl FnMut(&mut Self) -> io::Result<usize>) -> io::Result<usize> {
        match act(self) {
            Err(error) if self.direct && Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                let flags = fcntl_getfl(&self.file)?;
                fcntl_setfl(&self.file, flags - OFlags::DIRECT)?;
                self.direct = false;
                act(self)
            }
            done => done,
        }
    }

    fn read_blocks(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (start, length, front) = self.blocks(offset, buffer.len());
        let window = self.buffer.get_mut(self.window..).and_then(|window| window.get_mut(..length));
        let window = window.ok_or(io::ErrorKind::InvalidInput)?;
        let count = self.file.read_at(window, start)?;
        let there = window.get(front..count).unwrap_or_default();
        let count = there.len().min(buffer.len());
        if let (Some(into), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            into.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_blocks(&mut self, data: &[u8], offset: u64) -> io::Result<usize> {
        let (start, length, front) = self.blocks(offset, data.len());
        let count = data.len().min(length - front);
        // What shares a block with the data stays.
        if front > 0 || front + count < length {
            let window = self.buffer.get_mut(self.window..).and_then(|window| window.get_mut(..length));
            self.file.read_exact_at(window.ok_or(io::ErrorKind::InvalidInput)?, start)?;
        }
        let window = self.buffer.get_mut(self.window..).and_then(|window| window.get_mut(..length));
        let window = window.ok_or(io::ErrorKind::InvalidInput)?;
        if let (Some(into), Some(from)) = (window.get_mut(front..front + count), data.get(..count)) {
            into.copy_from_slice(from);
        }
        let written = self.file.write_at(window, start)?;
        if !self.direct {
            self.unsynced += written as u64;
            if self.unsynced >= UNSYNCED {
                self.file.sync_data()?;
                self.unsynced = 0;
            }
        }
        Ok(written.saturating_sub(front).min(count))
    }
}

impl Medium for Device {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.retried(|device| device.read_blocks(buffer, offset))
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.retried(|device| device.write_blocks(data, offset))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.file.sync_all()
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }
}
