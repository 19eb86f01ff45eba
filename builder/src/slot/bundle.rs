//! A slot as one file: a tar archive with `slot.txt` first and then the files that it lists, in that order.
//!
//! It is made to be taken apart by any tar, dom0's busybox among them: names of less than 100 characters, no extensions.

use super::listing::MOST_TEXT;
use super::{LISTING, Listing};
use crate::cache::sha256;
use crate::error::{Error, Result, ResultExt};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use tar::{Archive, Builder, EntryType, Header};

/// A slot's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What they are.
    pub listing: Listing,
    /// Their bytes, by name.
    files: BTreeMap<String, Arc<[u8]>>,
}

impl Bundle {
    /// A slot of these files.
    ///
    /// # Errors
    /// One that the listing names is missing, or is another one.
    pub fn new(listing: Listing, mut file: impl FnMut(&str) -> Result<Arc<[u8]>>) -> Result<Self> {
        let mut files = BTreeMap::new();
        for listed in &listing.files {
            let data = file(&listed.name)?;
            if data.len() as u64 != listed.size {
                return Err(Error::new(format!(
                    "{} has {} bytes, and {LISTING} says {}",
                    listed.name,
                    data.len(),
                    listed.size
                )));
            }
            if sha256(&data) != listed.sha256 {
                return Err(Error::new(format!("{} is not what {LISTING} says", listed.name)));
            }
            files.insert(listed.name.clone(), data);
        }
        Ok(Self { listing, files })
    }

    /// The files by name, with the listing.
    pub fn files(&self) -> impl Iterator<Item = (&str, Arc<[u8]>)> {
        let listing: Arc<[u8]> = self.listing.text().into_bytes().into();
        let files = self.files.iter().map(|(name, data)| (name.as_str(), data.clone()));
        std::iter::once((LISTING, listing)).chain(files)
    }

    /// Writes the archive; `epoch` is the time of its files, in seconds since 1970.
    ///
    /// # Errors
    /// A name that is too long for the plain form, or what `to` reports.
    pub fn write(&self, epoch: u64, to: impl Write) -> Result<()> {
        let failed = || "cannot write the bundle";
        let mut archive = Builder::new(to);
        let listing = self.listing.text();
        let listed = self.listing.files.iter().map(|listed| listed.name.as_str());
        for name in std::iter::once(LISTING).chain(listed) {
            let data = match self.files.get(name) {
                Some(data) => data,
                None => listing.as_bytes(),
            };
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_path(name).context(failed)?;
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(epoch);
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            archive.append(&header, data).context(failed)?;
        }
        archive.into_inner().and_then(|mut to| to.flush()).context(failed)
    }

    /// Reads the bundle in the file `path`.
    ///
    /// # Errors
    /// What is no bundle, or a damaged one.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = path.metadata().context_at(path, || "cannot find the bundle")?;
        if !meta.is_file() {
            return Err(Error::new("the bundle is no file").at(path));
        }
        let file = File::open(path).context_at(path, || "cannot open the bundle")?;
        Self::read(file).map_err(|error| {
            error
                .context("this is no whole bundle of a slot")
                .at(path)
                .help("make one: `vambrace slot bundle IMAGE FILE`")
        })
    }

    /// Reads a bundle. No more is kept in memory than it has.
    ///
    /// # Errors
    /// What is no bundle, or a damaged one.
    pub fn read(from: impl Read) -> Result<Self> {
        let failed = || "cannot read the archive";
        let mut archive = Archive::new(from);
        let mut entries = archive.entries().context(failed)?;
        let mut next = |name: &str, most: u64| -> Result<Arc<[u8]>> {
            let missing = || Error::new(format!("{name} is not where it should be in the archive"));
            let entry = entries.next().ok_or_else(missing)?.context(failed)?;
            let is = entry.header().entry_type() == EntryType::Regular
                && entry.path_bytes().strip_prefix(b"./").unwrap_or(&entry.path_bytes()) == name.as_bytes();
            if !is {
                return Err(missing());
            }
            let mut data = Vec::new();
            entry.take(most.saturating_add(1)).read_to_end(&mut data).context(failed)?;
            if data.len() as u64 > most {
                return Err(Error::new(format!("{name} has more than {most} bytes")));
            }
            Ok(data.into())
        };
        let listing = Listing::parse(&next(LISTING, MOST_TEXT)?)?;
        let sizes: BTreeMap<String, u64> =
            listing.files.iter().map(|listed| (listed.name.clone(), listed.size)).collect();
        Self::new(listing, |name| next(name, sizes.get(name).copied().unwrap_or(0)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::slot::{Listed, SCRIPT};
    use proptest::prelude::*;

    /// A bundle for the board `qemu-arm64` whose hypervisor has these bytes.
    pub(in crate::slot) fn bundle(hypervisor: &[u8]) -> Bundle {
        let files: [(&str, &[u8]); 4] =
            [(SCRIPT, b"a script"), ("hypervisor.bin", hypervisor), ("kernel", &[7; 5000]), ("empty", b"")];
        let listed = |(name, data): &(&str, &[u8])| Listed {
            name: (*name).to_owned(),
            size: data.len() as u64,
            sha256: sha256(data),
        };
        let listing =
            Listing { board: "qemu-arm64".into(), kernel: None, files: files.iter().map(listed).collect() };
        Bundle::new(listing, |name| {
            let data = files.iter().find(|(known, _)| *known == name).map(|(_, data)| (*data).into());
            data.ok_or_else(|| Error::new("missing"))
        })
        .unwrap()
    }

    fn written(bundle: &Bundle) -> Vec<u8> {
        let mut archive = Vec::new();
        bundle.write(1_700_000_000, &mut archive).unwrap();
        archive
    }

    #[test]
    fn what_is_written_is_read() {
        let bundle = bundle(b"hypervisor");
        let archive = written(&bundle);
        assert_eq!(Bundle::read(archive.as_slice()).unwrap(), bundle);
        assert_eq!(written(&bundle), archive, "the same bytes each time");
        // On a device, zeros follow.
        let mut device = archive.clone();
        device.resize(archive.len() + 8192, 0);
        assert_eq!(Bundle::read(device.as_slice()).unwrap(), bundle);
    }

    #[test]
    fn tar_takes_it_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.slot");
        std::fs::write(&path, written(&bundle(b"hypervisor"))).unwrap();
        let done = std::process::Command::new("tar").arg("-tf").arg(&path).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&done.stdout),
            "slot.txt\nslot.scr\nhypervisor.bin\nkernel\nempty\n"
        );
    }

    #[test]
    fn a_damaged_bundle_is_refused_wherever_it_is_damaged() {
        let archive = written(&bundle(b"hypervisor"));
        let last = archive.len() - 1024 - 512;
        for cut in [0, 1, 511, 512, 700, 1500, 4000, last] {
            assert!(Bundle::read(archive.get(..cut).unwrap()).is_err(), "cut at {cut}");
        }
        // In the listing and in each file; padding and what a header has beside name, size and kind do not matter.
        for at in [520, 512 * 3 + 2, 512 * 5 + 3, 512 * 7 + 4999] {
            let mut bad = archive.clone();
            bad[at] ^= 1;
            assert!(Bundle::read(bad.as_slice()).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            at in 0_usize..12_000, with in proptest::collection::vec(proptest::num::u8::ANY, 1..64),
        ) {
            let mut archive = written(&bundle(b"hypervisor"));
            for (to, from) in archive.iter_mut().skip(at).zip(with) {
                *to = from;
            }
            let _ = Bundle::read(archive.as_slice());
        }
    }
}
