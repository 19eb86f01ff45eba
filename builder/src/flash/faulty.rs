//! A medium in memory that fails when a test wants it to, and forgets what was not synced when the power goes.

use super::medium::Medium;
use rustix::io::Errno;
use std::io;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// This call fails, once or from then on.
    Says(Errno, bool),
    /// One byte is done at most, if it is a write; nothing is wrong with that.
    Short,
    /// A write that is said to have been done, and was not.
    Lost,
}

/// The medium.
#[derive(Debug, Clone)]
pub(super) struct Faulty {
    /// What a reader sees.
    pub(super) bytes: Vec<u8>,
    /// What outlasts a power cut for certain.
    durable: Vec<u8>,
    /// The writes since the last sync.
    pending: Vec<(usize, Vec<u8>)>,
    /// What goes wrong at which call.
    fault: Option<(usize, Fault)>,
    /// The calls so far.
    pub(super) calls: usize,
    pub(super) written: u64,
}

impl Faulty {
    pub(super) fn new(bytes: Vec<u8>, fault: Option<(usize, Fault)>) -> Self {
        Self { durable: bytes.clone(), bytes, pending: Vec::new(), fault, calls: 0, written: 0 }
    }

    /// What is there after a power cut: of each write since the last sync, blocks that `kept` picks.
    pub(super) fn after_power_cut(&self, mut kept: impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (offset, data) in &self.pending {
            let mut start = 0;
            while start < data.len() {
                // Up to the next block of the medium.
                let end = (start + 512 - (offset + start) % 512).min(data.len());
                if kept() {
                    bytes[offset + start..offset + end].copy_from_slice(&data[start..end]);
                }
                start = end;
            }
        }
        bytes
    }

    fn fault(&mut self) -> io::Result<Option<Fault>> {
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some((at, Fault::Says(errno, once))) if call == at || (!once && call > at) => Err(errno.into()),
            Some((at, fault)) if call == at => Ok(Some(fault)),
            _ => Ok(None),
        }
    }
}

impl Medium for Faulty {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fault()?;
        let there = &self.bytes[(offset as usize).min(self.bytes.len())..];
        let count = buffer.len().min(there.len());
        buffer[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<usize> {
        let fault = self.fault()?;
        let offset = offset as usize;
        let Some(room) = self.bytes.len().checked_sub(offset).filter(|&room| room > 0) else {
            return Err(Errno::NOSPC.into());
        };
        let count = data.len().min(room).min(if fault == Some(Fault::Short) { 1 } else { usize::MAX });
        if fault != Some(Fault::Lost) {
            self.bytes[offset..offset + count].copy_from_slice(&data[..count]);
            self.pending.push((offset, data[..count].to_vec()));
            self.written += count as u64;
        }
        Ok(count)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fault()?;
        self.durable.clone_from(&self.bytes);
        self.pending.clear();
        Ok(())
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        self.fault().map(drop)
    }
}
