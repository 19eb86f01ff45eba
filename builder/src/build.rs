//! Building an image: parts, plan, disk, read-back, and only then the name of the image.

use crate::cache::{Cache, Inputs, Stamp, hash_reader, read_json, replace_file, sha256, to_json};
use crate::companions::{self, Described};
use crate::decision::{Decision, HypervisorSource};
use crate::disk::{
    Blob, Content as DiskContent, DiskSpec, Ext4, Fat32, FileSpec, Gpt, Partial, PartitionSpec, Table,
    write_into,
};
use crate::error::{Error, Result, ResultExt};
use crate::firmware::FirmwareSource;
use crate::guest;
use crate::image::packing::Packing;
use crate::image::{
    Base, Bases, Known, Last, Packed, Placed, bmap, map_and_check, pack, prepare, remove_spare, replace,
    watch,
};
use crate::layout::{Content, Filesystem, Layout, ModuleKind, SlotFile};
use crate::lock::ImageLock;
use crate::parts::{MAX_MODULE, Maker, Parts, builder_stamp, epoch};
use crate::pins::lockfile::LockFile;
use crate::plan::{Artifact, Plan, listing};
use crate::progress::Progress;
use crate::record::Record;
use crate::signature::sign;
use crate::slot::{SlotName, State};
use crate::sources::Sources;
use crate::staged::Staged;
use crate::tree::Data;
use crate::uboot::{boot_script, kernel_image, load_address};
use crate::verify::verify_written;
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use vambrace_bsp::Method;

/// How to build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Build even if the image is up to date.
    pub force: bool,
    /// The time in archives and file systems, in seconds since 1970; that of [`epoch`] where this is `None`.
    pub epoch: Option<u64>,
    /// Where to write down which packages the image is made of, unless it is from there that they are known.
    pub lock: Option<PathBuf>,
    /// The key to sign the image's statement with.
    pub sign: Option<PathBuf>,
    /// How to pack the image; what is packed lies beside it.
    pub pack: Vec<Packing>,
}

/// What is known of an image that has been built; kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The hash of everything the image was made from.
    pub fingerprint: String,
    /// How the image looked when it was made.
    pub stamp: Stamp,
    /// The SHA-256 of its block map, in hexadecimal: two images have the same only if everything in use is the same.
    pub map: String,
    /// The image's size in bytes.
    pub size: u64,
    /// The packages in it and their versions.
    pub packages: Vec<String>,
    /// The plan it was made by.
    pub plan: serde_json::Value,
    /// The image as it has been packed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<Packed>,
    /// What has to be known of it for the next one to be made from it.
    #[serde(default)]
    pub known: Known,
}

/// The result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image.
    pub image: PathBuf,
    /// What is known of it.
    pub manifest: Manifest,
    /// Whether there was nothing to do.
    pub up_to_date: bool,
}

/// Builds the image that `decision` describes, or finds that it is up to date.
///
/// # Errors
///
/// Whatever keeps a part from being made, the parts from fitting together, or the image from being written or read
/// back. The image of before is then still there.
pub fn build(
    workspace: &Workspace,
    decision: &Decision,
    cache: &Cache,
    options: &Options,
    progress: &Progress,
) -> Result<Built> {
    let epoch = options.epoch.map_or_else(epoch, Ok)?;
    let maker = Maker { root: workspace.root(), decision, cache, progress, epoch };
    let known = if options.force { None } else { up_to_date(decision, &maker)? };
    let up_to_date = known.is_some();
    let made = known.map_or_else(|| make(workspace, decision, &maker, options, progress), Ok);
    // What was learned on the way holds even if the image could not be made.
    cache.save();
    let mut built = Built { image: decision.image.clone(), manifest: made?, up_to_date };
    pack_missing(&mut built, &options.pack, progress)?;
    if let (Some(path), None) = (&options.lock, cache.lock_file())
        && !companions::is_lock_of(path, &built.image)
    {
        LockFile { pins: maker.pins()?, image: None }.write(path)?;
        progress.line(format!("{} pins the packages from now on", path.display()));
    }
    if let Some(key) = &options.sign {
        companions::tell_hash(&built.image, progress)?;
        sign(&companions::statement_path(&built.image), key)?;
    }
    Ok(built)
}

/// Packs the image in those ways in which it has not been packed yet.
fn pack_missing(built: &mut Built, wanted: &[Packing], progress: &Progress) -> Result<()> {
    let (image, manifest) = (&built.image, &mut built.manifest);
    let missing = |manifest: &Manifest, packing: Packing| {
        !manifest.packed.iter().any(|packed| packed.packing == packing && packed.is_beside(image))
    };
    if !wanted.iter().any(|packing| missing(manifest, *packing)) {
        return Ok(());
    }
    let _lock = ImageLock::take(image)?;
    if Stamp::of(image)? != manifest.stamp {
        return Err(Error::new("the image was changed, or built again, before it could be packed")
            .at(image)
            .help("run this again when nobody writes to it"));
    }
    for &packing in wanted {
        if missing(manifest, packing) {
            note_packed(image, manifest, pack(image, packing, progress)?)?;
        }
    }
    Ok(())
}

/// Where the manifest of an image is.
pub fn manifest_path(image: &Path) -> PathBuf {
    image.with_extension("json")
}

/// The manifest of the image, if the image is there and made from exactly these inputs.
fn up_to_date(decision: &Decision, maker: &Maker<'_>) -> Result<Option<Manifest>> {
    let Some(manifest) = read_json::<Manifest>(&manifest_path(&decision.image)) else { return Ok(None) };
    if Stamp::of(&decision.image).ok().as_ref() != Some(&manifest.stamp) {
        return Ok(None);
    }
    if !companions::complete(&decision.image) {
        return Ok(None);
    }
    // QEMU needs the firmware, which is not in the image.
    for name in decision.firmware.keys() {
        if !maker.firmware_file(name).is_ok_and(|path| path.is_file()) {
            return Ok(None);
        }
    }
    Ok(maker.fingerprint()?.filter(|fingerprint| *fingerprint == manifest.fingerprint).map(|_| manifest))
}

fn make(
    workspace: &Workspace,
    decision: &Decision,
    maker: &Maker<'_>,
    options: &Options,
    progress: &Progress,
) -> Result<Manifest> {
    let epoch = maker.epoch;
    let image = &decision.image;
    // git takes its time.
    let root = workspace.root().to_owned();
    let sources = std::thread::spawn(move || Sources::of(&root));
    // From the parts to the manifest: image, hash and manifest are of one build.
    let _lock = ImageLock::take(image)?;
    if let HypervisorSource::File(path) = &decision.hypervisor {
        fs::metadata(path).context_at(path, || "cannot find the hypervisor")?;
    }
    maker.resolve_packages()?;
    if options.force {
        maker.read_ahead()?;
    }
    // Taken before the parts are made: what changes meanwhile makes the next build do its work.
    let fingerprint =
        maker.fingerprint()?.ok_or_else(|| Error::new("some packages could not be looked up"))?;
    let last = read_json::<Manifest>(&manifest_path(image));
    let last = last.map(|last| Last { known: last.known, stamp: last.stamp, map: last.map });
    let bases = (!options.force).then(|| Bases::find(image, last.as_ref()));
    let parts = maker.make(bases.as_ref())?;
    let plan = Plan::new(decision, parts.artifacts(&decision.guests))?;
    let base = match bases {
        Some(bases) => bases.start()?,
        None => remove_spare(image).map(|_| None)?,
    };
    let (spec, known) = disk_spec(decision, &plan, &parts, maker, base.as_ref())?;
    let (fresh, before, cloned) = match base {
        None => (Partial::create(image)?, None, false),
        Some(base) => (base.partial, Some(base.map), base.cloned),
    };
    let written = write_into(&fresh, &spec, before.is_some(), progress)?;
    let path = fresh.temporary();
    let (map, packed) = std::thread::scope(|scope| {
        // While it is read back, for most of that the CPU is not needed.
        let synced = scope.spawn(|| fresh.sync());
        let packed = scope.spawn(|| {
            let wanted = options.pack.iter().enumerate();
            let once = wanted.filter(|(index, packing)| !options.pack[..*index].contains(packing));
            once.map(|(_, packing)| prepare(fresh.file(), image, *packing, progress)).collect::<Vec<_>>()
        });
        let verified = verify_written(path, &spec, &written, progress);
        let map = verified.and_then(|claims| map_and_check(path, &spec, before.as_ref(), claims));
        let panicked = || Error::new("writing the image ended in a panic of the builder");
        let synced = synced.join().unwrap_or_else(|_| Err(panicked()));
        let packed = packed.join().map_err(|_| panicked());
        // Where the first fails, it is why others did.
        synced.and(map).and_then(|map| Ok((map, packed?)))
    })?;
    let text = bmap::render(&map)?;
    // What was changed while it was read is under no key.
    let known = match &parts.root {
        Some(root) if root.tree.is_some() && maker.root_uuid_now()? != Some(root.uuid) => {
            Known { placed: Vec::new(), root: None, ..known }
        }
        _ => known,
    };
    let map = sha256(text.as_bytes());
    let sources = sources.join().unwrap_or_default();
    let described = Described {
        name: companions::file_name(image),
        record: &Record::new(workspace, decision, maker.cache, sources, epoch, &map)?,
        map: &text,
        pins: &maker.pins()?,
        hypervisor: &plan.artifacts.hypervisor,
        compiled: matches!(decision.hypervisor, HypervisorSource::Compile { .. }),
        firmware: own_firmware(decision, &plan),
    };
    let beside = companions::stage(image, &described)?;
    let mut manifest = Manifest {
        fingerprint,
        stamp: Stamp::of(path)?,
        map,
        size: spec.size,
        packages: maker
            .known_packages()?
            .unwrap_or_default()
            .iter()
            .map(|package| {
                format!("{} {} {} {}", package.name, package.version, package.arch, package.sha256)
            })
            .collect(),
        plan: serde_json::to_value(&plan).context(|| "cannot write the plan as JSON")?,
        packed: Vec::new(),
        // Before anybody can find it.
        known: Known { watched: watch(path), ..known },
    };
    // Whatever needs room has it from here on: the image and all that is beside it are replaced, or nothing is.
    let mut staged = Staged::new(&manifest_path(image), &to_json(&manifest)?)?;
    let last = last.filter(|_| !cloned);
    let last = last.as_ref().and_then(|last| Some((last, last.map(image)?)));
    companions::remove_stale(image)?;
    let path = path.to_owned();
    fresh.keep_by(|| replace(&path, image, last))?;
    beside.into_iter().try_for_each(Staged::put)?;
    manifest.stamp = Stamp::of(image)?;
    staged.rewrite(&to_json(&manifest)?)?;
    staged.put()?;
    // The image is there whatever became of these.
    for packed in packed {
        note_packed(image, &mut manifest, packed?.put()?)?;
    }
    Ok(manifest)
}

/// The firmware that is in no package, by name.
fn own_firmware<'a>(decision: &Decision, plan: &'a Plan) -> Vec<(&'a str, &'a Artifact)> {
    let own = |name: &str| matches!(decision.firmware.get(name), Some(FirmwareSource::File { .. }));
    let all = plan.artifacts.firmware.iter().map(|(name, artifact)| (name.as_str(), artifact));
    all.filter(|(name, _)| own(name)).collect()
}

/// Notes in the manifest of `image` how it has been packed.
fn note_packed(image: &Path, manifest: &mut Manifest, packed: Packed) -> Result<()> {
    manifest.packed.retain(|before| before.packing != packed.packing);
    manifest.packed.push(packed);
    manifest.packed.sort_by_key(|packed| packed.packing.suffix());
    replace_file(&manifest_path(image), &to_json(manifest)?)
}

/// The disk with its bytes, but for what `base` has already; and what is to be known of it.
fn disk_spec(
    decision: &Decision,
    plan: &Plan,
    parts: &Parts,
    maker: &Maker<'_>,
    base: Option<&Base>,
) -> Result<(DiskSpec, Known)> {
    let epoch = maker.epoch;
    let mut known = Known {
        builder: builder_stamp().unwrap_or_default(),
        root: plan.artifacts.root.clone(),
        ..Known::default()
    };
    let (layout, architecture) = (&decision.layout, decision.board.architecture);
    let boot: Data = match decision.method {
        Method::Uboot => boot_script(&plan.boot_text, architecture, epoch)?.into(),
        Method::Uefi | Method::Direct => plan.boot_text.as_bytes().into(),
    };
    // Only what `bootm` reads has that format.
    let uimage: Data = match decision.boot.bootm() {
        Some(offset) => {
            let address = load_address(decision.board.memory.base, offset);
            kernel_image(&parts.hypervisor.data.bytes(MAX_MODULE)?, architecture, address)?.into()
        }
        None => Data::default(),
    };
    let tree: Data = plan.device_tree.clone().unwrap_or_default().into();
    let slot: Data = match plan.slot_text.as_str() {
        "" => Data::default(),
        text => boot_script(text, architecture, epoch)?.into(),
    };
    let loaded = |content: Content| match content {
        Content::Hypervisor => parts.hypervisor.data.clone(),
        Content::HypervisorUimage => uimage.clone(),
        Content::Kernel => parts.kernel.data.clone(),
        Content::Ramdisk => parts.ramdisk.data.clone(),
        Content::DeviceTree => tree.clone(),
        Content::EfiConfig if decision.method == Method::Uboot => plan.efi_text.as_bytes().into(),
        Content::BootScript | Content::EfiConfig => boot.clone(),
        Content::Guest(module) => {
            let guest = parts.guests.get(module.guest);
            guest
                .and_then(|guest| guest.module(module.kind))
                .map(|part| part.data.clone())
                .unwrap_or_default()
        }
        Content::Firmware(number) => {
            let name = decision.boot.firmware.get(number);
            name.and_then(|name| parts.firmware.get(name)).map(|part| part.data.clone()).unwrap_or_default()
        }
        Content::Slot(SlotFile::Script) => slot.clone(),
        Content::Slot(SlotFile::Good) => State::good_file(SlotName::A).into(),
        Content::Slot(SlotFile::Trial) => State::trial_file(None).into(),
        Content::Slot(SlotFile::Listing) => Data::default(),
    };
    let data = |content: Content| -> Result<Data> {
        if content != Content::Slot(SlotFile::Listing) {
            return Ok(loaded(content));
        }
        let hashed = |content| {
            let data = loaded(content);
            let sha256 = hash_reader(data.reader()).context(|| "cannot read a file of the slot")?;
            Ok((data.len(), sha256))
        };
        Ok(listing(decision, &parts.kernel.artifact.from, hashed)?.text().into())
    };
    let seed = identity(layout, plan, parts, epoch);
    let mut partitions = Vec::new();
    for (index, (partition, planned)) in layout.partitions.iter().zip(&plan.disk.partitions).enumerate() {
        let mut files = Vec::new();
        for file in &planned.files {
            let data = data(file.content)?;
            if data.len() != file.size {
                let text = format!("{} has {} bytes, and the plan says {}", file.path, data.len(), file.size);
                return Err(Error::new(text));
            }
            files.push(FileSpec { path: file.path.clone(), data });
        }
        let own = derive(&seed, &format!("partition {index}"));
        let content = match partition.filesystem {
            Filesystem::Fat32 => DiskContent::Fat32(Fat32 {
                label: partition.label.clone(),
                volume_id: u32::from_le_bytes([own[0], own[1], own[2], own[3]]),
                files,
            }),
            Filesystem::Guest { guest, disk } => {
                let description = decision.guests.config.guests.get(guest);
                let described = description.and_then(|guest| Some((guest, guest.disks.get(disk)?)));
                let made = parts.guests.get(guest).and_then(|guest| guest.disks.get(disk));
                let (Some((guest, disk)), Some((_, root))) = (described, made) else {
                    return Err(Error::new("the disk of a guest has not been made"));
                };
                guest::content(guest, disk, root.as_ref())
            }
            Filesystem::Lvm => {
                let group = guest::volume_group(&decision.guests.config, &parts.guests, &seed);
                DiskContent::Lvm(group.ok_or_else(|| Error::new("the volume group has not been made"))?)
            }
            Filesystem::Ext4 => {
                let root = parts.root.as_ref();
                let root = root.ok_or_else(|| Error::new("the root file system has not been made"))?;
                let (label, uuid) = (partition.label.clone(), root.uuid);
                let placed = Placed::ext4(planned.start, planned.size, &label, uuid, epoch);
                let same = base.is_some_and(|base| base.has(&placed));
                // What guests have in it is no part of its UUID.
                if decision.guests.config.guests.is_empty() {
                    known.placed.push(placed);
                } else {
                    known.root = None;
                }
                // One that was in an image may have to lie elsewhere in this one, and is made after all.
                let tree = || -> Result<_> {
                    match &root.tree {
                        Some(tree) => Ok(Some(tree.clone())),
                        None => Ok(maker.root()?.and_then(|root| root.tree)),
                    }
                };
                let unmade = || Error::new("the files of the root file system have not been made");
                match same {
                    true => DiskContent::Same,
                    false => DiskContent::Ext4(Ext4 { label, uuid, tree: tree()?.ok_or_else(unmade)? }),
                }
            }
        };
        partitions.push(PartitionSpec {
            name: partition.name.clone(),
            type_guid: partition.kind.guid().to_owned(),
            mbr_type: partition.kind.mbr_type(partition.filesystem),
            guid: own,
            start: planned.start,
            size: planned.size,
            bootable: partition.bootable,
            content,
        });
    }
    let raw = plan
        .disk
        .extents
        .iter()
        .filter_map(|extent| {
            let name = extent.what.strip_prefix("firmware ")?;
            let data = parts.firmware.get(name)?.data.bytes(plan.disk.size);
            Some(data.map(|data| Blob { name: name.to_owned(), offset: extent.start, data: data.into() }))
        })
        .collect::<Result<_>>()?;
    let disk_guid = derive(&seed, "disk");
    let table = match layout.table {
        crate::layout::Table::Gpt => Table::Gpt(plan.disk.gpt.unwrap_or(Gpt::USUAL)),
        // 0 stands for no signature.
        crate::layout::Table::Mbr => Table::Mbr {
            signature: u32::from_be_bytes([disk_guid[0], disk_guid[1], disk_guid[2], disk_guid[3]]).max(1),
        },
    };
    Ok((DiskSpec { table, disk_guid, size: plan.disk.size, partitions, raw, epoch }, known))
}

/// A hash of what is in the image: two images have the same identifiers only if they are the same.
fn identity(layout: &Layout, plan: &Plan, parts: &Parts, epoch: u64) -> String {
    let mut inputs = Inputs::new("identity", 1);
    inputs.add("layout", format!("{layout:?}"));
    inputs.add("epoch", epoch.to_string());
    inputs.add("boot", &plan.boot_text);
    inputs.add("efi", &plan.efi_text);
    if !plan.slot_text.is_empty() {
        inputs.add("slot", &plan.slot_text);
    }
    inputs.add("device-tree", format!("{:?}", plan.device_tree));
    for part in [&parts.hypervisor, &parts.kernel, &parts.ramdisk].into_iter().chain(parts.firmware.values())
    {
        inputs.add("part", part.artifact.sha256.as_deref().unwrap_or_default());
    }
    if let Some(root) = &parts.root {
        inputs.add("root", &root.artifact.uuid);
    }
    for guest in &parts.guests {
        let modules = ModuleKind::ALL.into_iter().filter_map(|kind| guest.module(kind));
        let modules = modules.map(|part| part.artifact.sha256.clone().unwrap_or_default());
        let roots = guest
            .disks
            .iter()
            .map(|(size, root)| format!("{size} {}", root.as_ref().map_or("", |root| &root.artifact.uuid)));
        modules.chain(roots).for_each(|value| inputs.add("guest", value));
    }
    inputs.key()
}

/// A GUID from a hash: version 8 of RFC 9562, in the order in which it is printed.
pub(crate) fn derive(seed: &str, name: &str) -> [u8; 16] {
    let hash = Sha256::digest(format!("{seed} {name}"));
    let mut guid = [0; 16];
    guid.iter_mut().zip(hash.iter()).for_each(|(to, from)| *to = *from);
    guid[6] = (guid[6] & 0x0f) | 0x80;
    guid[8] = (guid[8] & 0x3f) | 0x80;
    guid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::packed_path;

    #[test]
    fn what_is_packed_already_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("x.img");
        fs::write(&image, [5; 9000]).unwrap();
        let manifest = Manifest {
            fingerprint: String::new(),
            stamp: Stamp::of(&image).unwrap(),
            map: String::new(),
            size: 9000,
            packages: Vec::new(),
            plan: serde_json::Value::Null,
            packed: Vec::new(),
            known: Known::default(),
        };
        let mut built = Built { image: image.clone(), manifest, up_to_date: true };
        let again = |built: &mut Built, wanted: &[Packing]| pack_missing(built, wanted, &Progress::quiet());
        let is_there = |packing| packed_path(&image, packing).exists();
        again(&mut built, &[]).unwrap();
        assert!(built.manifest.packed.is_empty() && !manifest_path(&image).exists());
        again(&mut built, &[Packing::Zstd, Packing::Zstd]).unwrap();
        assert!(built.manifest.packed.len() == 1 && is_there(Packing::Zstd) && !is_there(Packing::Gzip));
        let first = built.manifest.clone();
        assert_eq!(read_json::<Manifest>(&manifest_path(&image)).as_ref(), Some(&first));
        // A stamp tells every writing apart: nothing has been written.
        again(&mut built, &[Packing::Zstd]).unwrap();
        assert_eq!(built.manifest, first);
        again(&mut built, &[Packing::Gzip, Packing::Zstd]).unwrap();
        assert_eq!(
            built.manifest.packed.iter().find(|one| one.packing == Packing::Zstd),
            first.packed.first()
        );
        assert_eq!(built.manifest.packed.len(), 2);
        // What was removed, or is another's, is made again.
        fs::remove_file(packed_path(&image, Packing::Gzip)).unwrap();
        fs::write(packed_path(&image, Packing::Zstd), "another").unwrap();
        again(&mut built, &[Packing::Gzip, Packing::Zstd]).unwrap();
        assert!(built.manifest.packed.iter().all(|one| one.is_beside(&image)));
        assert_eq!(
            built.manifest.packed.last().map(|one| &one.sha256),
            first.packed.first().map(|one| &one.sha256)
        );
        fs::write(&image, "written to").unwrap();
        let said = again(&mut built, &[Packing::Xz]).unwrap_err().report();
        assert!(said.contains("was changed") && !is_there(Packing::Xz), "{said}");
    }

    #[test]
    fn identifiers_are_well_formed_and_follow_the_content() {
        let guid = derive("seed", "disk");
        assert_eq!(guid[6] >> 4, 8);
        assert_eq!(guid[8] >> 6, 2);
        assert_eq!(guid, derive("seed", "disk"));
        assert_ne!(guid, derive("seed", "partition 0"));
        assert_ne!(guid, derive("other", "disk"));
    }
}
