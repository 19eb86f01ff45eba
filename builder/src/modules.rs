//! Modules of a Debian kernel package: which ones a wish comes to, and in what order they can be loaded.
//!
//! The package has no `modules.dep`; that file is made on the machine where it is installed. What a module needs stands
//! in the module itself, in its section `.modinfo`: `depends=` for symbols that others have, `softdep=pre:` for what it
//! asks for by a name at run time (Linux, include/linux/module.h).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};

use object::{Object, ObjectSection};

use crate::deb::normalise;
use crate::error::{Error, Result, ResultExt};
use crate::tree::{Data, Kind, Member, Source, walk_tar};
use vambrace_bsp::did_you_mean;

/// Bytes of one unpacked module; the largest of Debian's have a few dozen MiB.
const MAX_MODULE: u64 = 256 << 20;
/// Longest chain of modules that need one another; real ones are a few long.
const MAX_DEPTH: usize = 64;
/// Memory that an xz stream may ask for, in KiB.
const MAX_DECODER_KIB: u32 = 256 << 10;

/// A module as it goes into a ramdisk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file's name, such as `sunxi-mmc.ko`.
    pub file: String,
    /// The file, unpacked.
    pub data: Vec<u8>,
}

/// The modules `wanted` of the kernel whose package has these `files`, with everything that they need, each after what it
/// needs. What is built into the kernel is left out.
///
/// # Errors
/// A name that is neither a module nor built in, with near ones; a package without modules; a damaged module.
pub fn collect(files: &Source, wanted: &[String]) -> Result<Vec<Module>> {
    let mut packed = BTreeMap::new();
    let mut builtin = BTreeSet::new();
    let mut aliases = BTreeSet::new();
    files_below(files, |path, data| {
        match file_name(path) {
            "modules.builtin" => {
                let data = data.bytes(MAX_MODULE)?;
                builtin.extend(String::from_utf8_lossy(&data).lines().map(name_of));
            }
            "modules.builtin.modinfo" => aliases.extend(
                data.bytes(MAX_MODULE)?
                    .split(|&byte| byte == 0)
                    .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once(".alias="))
                    .map(|(_, alias)| normal(alias)),
            ),
            file if file.contains(".ko") => {
                packed.insert(name_of(file), Packed { file: file.to_owned(), data });
            }
            _ => {}
        }
        Ok(())
    })?;
    if packed.is_empty() {
        return Err(Error::new("the kernel's package has no modules"));
    }
    let mut closure = Closure { packed, builtin, aliases, state: BTreeMap::new(), order: Vec::new() };
    for name in wanted {
        closure.add(&normal(name), &mut Vec::new())?;
    }
    Ok(closure.order)
}

/// Gives the files in `/usr/lib/modules` of the archive to `take`, each with its path below that. Before Debian 13 it is
/// `/lib/modules`. Links are left out.
pub(crate) fn files_below(archive: &Source, mut take: impl FnMut(&str, Data) -> Result<()>) -> Result<()> {
    walk_tar(archive, |item| {
        let path = normalise(&String::from_utf8_lossy(&item.path));
        let path = path.strip_prefix("/usr").unwrap_or(&path);
        match (path.strip_prefix("/lib/modules/"), item.member) {
            (Some(path), Member::File(Kind::File(data))) => take(path, data),
            _ => Ok(()),
        }
    })
}

/// A module as the package has it.
struct Packed {
    file: String,
    data: Data,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// What it needs is being looked at.
    Open,
    Done,
}

struct Closure {
    packed: BTreeMap<String, Packed>,
    builtin: BTreeSet<String>,
    /// Other names of what is built in.
    aliases: BTreeSet<String>,
    state: BTreeMap<String, State>,
    order: Vec<Module>,
}

impl Closure {
    /// Adds a module behind everything that it needs; `needed_by` are those that led to it, the last one directly.
    fn add(&mut self, name: &str, needed_by: &mut Vec<String>) -> Result<()> {
        match self.state.get(name) {
            Some(State::Done) => return Ok(()),
            Some(State::Open) => {
                return Err(Error::new(format!("the kernel's module {name} depends on itself")));
            }
            None => {}
        }
        if self.builtin.contains(name) {
            return Ok(());
        }
        let Some(packed) = self.packed.get(name) else {
            return Err(self.unknown(name, needed_by.last().map(String::as_str)));
        };
        if needed_by.len() == MAX_DEPTH {
            return Err(Error::new(format!("the kernel's module {name} is needed over {MAX_DEPTH} others")));
        }
        let failed = || format!("the kernel's module {name} is damaged");
        let data = unpack(packed).context(failed)?;
        let info = info(&data).map_err(|error| error.context(failed()))?;
        let file = format!("{}.ko", packed.file.split(".ko").next().unwrap_or(name));
        self.state.insert(name.to_owned(), State::Open);
        needed_by.push(name.to_owned());
        for soft in &info.soft {
            // As for modprobe: what nobody has is not needed.
            if let Some(found) = self.by_any_name(soft)
                && self.state.get(&found) != Some(&State::Open)
            {
                self.add(&found, needed_by)?;
            }
        }
        for needed in &info.depends {
            self.add(needed, needed_by)?;
        }
        needed_by.pop();
        self.state.insert(name.to_owned(), State::Done);
        self.order.push(Module { file, data });
        Ok(())
    }

    /// The module that goes by `name`, if it is not built in. A module's other names are in the module: to unpack them all
    /// would take longer than to build the image, so those are looked at whose own name has the last word of the other,
    /// as `crc32c_generic` for `crypto-crc32c`.
    fn by_any_name(&self, name: &str) -> Option<String> {
        if self.builtin.contains(name) || self.aliases.contains(name) {
            return None;
        }
        if self.packed.contains_key(name) {
            return Some(name.to_owned());
        }
        let word = name.rsplit('_').next().filter(|word| word.len() > 2)?;
        let mut found: Vec<&String> = self
            .packed
            .iter()
            .filter(|(own, _)| own.contains(word))
            .filter(|(_, packed)| {
                let aliases = unpack(packed).ok().and_then(|data| Some(info(&data).ok()?.aliases));
                aliases.is_some_and(|aliases| aliases.iter().any(|alias| alias == name))
            })
            .map(|(own, _)| own)
            .collect();
        // The one in C runs on every CPU; others refuse where an instruction is missing.
        found.sort_by_key(|own| (!own.ends_with("_generic"), own.len()));
        found.first().map(|own| (*own).clone())
    }

    fn unknown(&self, name: &str, needed_by: Option<&str>) -> Error {
        let error = match needed_by {
            Some(other) => {
                Error::new(format!("the kernel's module {other} needs `{name}`, which is not there"))
            }
            None => Error::new(format!("the kernel has no module `{name}`")),
        };
        // Thousands are known; those that begin alike or have the name in theirs are worth showing.
        let start = name.get(..3).unwrap_or(name);
        let near = self
            .packed
            .keys()
            .map(String::as_str)
            .filter(|other| other.contains(name) || name.contains(*other) || other.starts_with(start))
            .take(12)
            .collect::<Vec<_>>();
        if near.is_empty() {
            return error.help("modules are named as `lsmod` shows them on a running system");
        }
        error.help(did_you_mean(name, near))
    }
}

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    depends: Vec<String>,
    soft: Vec<String>,
    aliases: Vec<String>,
}

fn info(module: &[u8]) -> Result<Info> {
    let failed = || "it is not an ELF file with a section .modinfo";
    let file = object::File::parse(module).context(failed)?;
    let section = file.section_by_name(".modinfo").ok_or_else(|| Error::new(failed()))?;
    let mut info = Info::default();
    for entry in section.data().context(failed)?.split(|&byte| byte == 0) {
        let Some((key, value)) = std::str::from_utf8(entry).ok().and_then(|entry| entry.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(normal)),
            "alias" => info.aliases.push(normal(value)),
            // `pre: a b post: c`: what comes behind can wait for whoever wants it.
            "softdep" => info.soft.extend(
                value
                    .split_whitespace()
                    .skip_while(|word| *word != "pre:")
                    .skip(1)
                    .take_while(|word| !word.ends_with(':'))
                    .map(normal),
            ),
            _ => {}
        }
    }
    Ok(info)
}

fn unpack(packed: &Packed) -> std::io::Result<Vec<u8>> {
    let data = BufReader::with_capacity(1 << 16, packed.data.reader());
    let invalid = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let reader: Box<dyn Read + '_> = match packed.file.rsplit('.').next() {
        Some("ko") => Box::new(data),
        Some("xz") => Box::new(lzma_rust2::XzReader::new_mem_limit(data, true, MAX_DECODER_KIB)),
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(data)),
        Some("zst") => Box::new(
            ruzstd::decoding::StreamingDecoder::new(data)
                .map_err(|_| invalid("its zstd stream is damaged"))?,
        ),
        _ => return Err(invalid("it is packed in a way that is not known")),
    };
    let mut unpacked = Vec::new();
    reader.take(MAX_MODULE + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() as u64 > MAX_MODULE {
        return Err(invalid("it is larger than 256 MiB"));
    }
    Ok(unpacked)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The module's name in the path of its file.
fn name_of(path: &str) -> String {
    normal(file_name(path).split(".ko").next().unwrap_or_default())
}

/// `-` and `_` are the same in names of modules.
fn normal(name: &str) -> String {
    name.trim().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::Object as Writer;

    /// A module that says `info` of itself, packed as Debian packs them.
    fn module(info: &[&str]) -> Vec<u8> {
        let (format, arch, order) =
            (object::BinaryFormat::Elf, object::Architecture::Arm, object::Endianness::Little);
        let mut file = Writer::new(format, arch, order);
        let section = file.add_section(Vec::new(), b".modinfo".to_vec(), object::SectionKind::ReadOnlyData);
        let text: Vec<u8> = info.iter().flat_map(|entry| entry.bytes().chain([0])).collect();
        file.append_section_data(section, &text, 1);
        file.write().unwrap()
    }

    fn closure(modules: &[(&str, &[&str])], builtin: &[&str]) -> Closure {
        let packed = modules
            .iter()
            .map(|(file, info)| {
                (name_of(file), Packed { file: (*file).to_owned(), data: module(info).into() })
            })
            .collect();
        let builtin = builtin.iter().map(|name| normal(name)).collect();
        Closure {
            packed,
            builtin,
            aliases: BTreeSet::from(["fs_built_in".to_owned()]),
            state: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    fn ext4() -> Closure {
        closure(
            &[
                ("ext4.ko", &["license=GPL", "softdep=pre: crypto-crc32c fs-built-in", "depends=jbd2,crc16"]),
                ("jbd2.ko", &["depends=crc16"]),
                ("crc16.ko", &["depends="]),
                ("crc32c_generic.ko", &["alias=crc32c", "alias=crypto-crc32c", "depends="]),
                ("crc32c-arm-ce.ko", &["alias=crypto-crc32c", "depends="]),
                ("libcrc32c.ko", &["softdep=pre: ext4"]),
                ("sunxi-mmc.ko", &["depends=mmc_core"]),
                ("loop-a.ko", &["depends=loop_b"]),
                ("loop-b.ko", &["depends=loop_a"]),
                ("broken.ko", &["depends=nothing_of_that_name"]),
            ],
            &["mmc-core"],
        )
    }

    fn files(closure: &Closure) -> Vec<&str> {
        closure.order.iter().map(|module| module.file.as_str()).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let mut all = ext4();
        for name in ["ext4", "sunxi_mmc", "jbd2"] {
            all.add(name, &mut Vec::new()).unwrap();
        }
        assert_eq!(files(&all), ["crc32c_generic.ko", "crc16.ko", "jbd2.ko", "ext4.ko", "sunxi-mmc.ko"]);
        assert_eq!(info(&all.order[2].data).unwrap().depends, ["crc16"]);
    }

    #[test]
    fn what_is_built_in_is_left_out() {
        let mut all = ext4();
        all.add("mmc_core", &mut Vec::new()).unwrap();
        assert!(files(&all).is_empty());
    }

    #[test]
    fn unknown_broken_and_circular_modules_are_named() {
        let error = ext4().add("ext3", &mut Vec::new()).unwrap_err();
        assert!(
            error.report().contains("no module `ext3`") && error.report().contains("`ext4`"),
            "{}",
            error.report()
        );
        let error = ext4().add("broken", &mut Vec::new()).unwrap_err();
        assert!(error.what().contains("broken needs `nothing_of_that_name`"), "{error}");
        assert!(ext4().add("loop_a", &mut Vec::new()).unwrap_err().what().contains("depends on itself"));
        let mut damaged = ext4();
        let jbd2 = damaged.packed.get_mut("jbd2").unwrap();
        jbd2.data = jbd2.data.bytes(1 << 20).unwrap()[..40].into();
        assert!(damaged.add("ext4", &mut Vec::new()).is_err());
        damaged.packed.get_mut("jbd2").unwrap().file = "jbd2.ko.xz".into();
        assert!(damaged.add("ext4", &mut Vec::new()).is_err());
    }
}
