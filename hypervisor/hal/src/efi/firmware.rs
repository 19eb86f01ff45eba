//! Boot services: files into memory, the memory map, the end of the firmware (UEFI specification 2.10, 7 and 13.5).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::null_mut;

use arrayvec::ArrayVec;
use uefi_raw::protocol::file_system::{FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::{AllocateType, BootServices, MemoryDescriptor, MemoryType};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status, guid};
use vambrace_core::addr::{PAGE_SIZE, Pa, PaRange};
use vambrace_core::platform::tree::MAX_BYTES;

use super::config::{self, Config};
use super::tree::{self, Additions, Module, ModuleKind};

/// EFI_DTB_TABLE_GUID (UEFI specification 2.10, 4.6).
const DEVICE_TREE_TABLE: Guid = guid!("b1b621d5-f19c-41a5-830b-d9152c69aae0");
/// Alignment of dom0's kernel, in bytes (arm64 boot protocol).
const KERNEL_ALIGNMENT: u64 = 2 << 20;
/// Memory for the heap while the firmware runs. A tree of the largest size that is nothing but empty properties has an index
/// of 9 MiB, twice that while it grows, and a copy.
const HEAP_SIZE: usize = 32 << 20;
/// Longest device path read, in bytes.
const PATH_LIMIT: usize = 4096;

/// A message for whoever sits before the console.
type Result<T> = core::result::Result<T, String>;

/// The firmware, until [`Firmware::exit`].
pub(crate) struct Firmware {
    image: Handle,
    table: *const SystemTable,
    /// Pages taken, to give back when nothing comes of it: first page and number.
    taken: ArrayVec<(u64, usize), 8>,
}

/// What is in memory when the firmware has ended.
pub(crate) struct Loaded {
    /// The new device tree (physical).
    pub(crate) dtb: Pa,
    /// Everything loaded (physical), still in the caches.
    pub(crate) ranges: ArrayVec<PaRange, 4>,
}

/// A file or directory, closed when dropped.
struct File(*mut FileProtocolV1);

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the firmware's open, and is closed once.
        let _ = unsafe { ((*self.0).close)(self.0) };
    }
}

fn check(status: Status, what: impl FnOnce() -> String) -> Result<()> {
    if status == Status::SUCCESS { Ok(()) } else { Err(failure(&what(), status)) }
}

/// What could not be done, and why: in words where they are likely (the names of all statuses take a page of the image).
fn failure(what: &str, status: Status) -> String {
    let why = match status {
        Status::NOT_FOUND => "not found",
        Status::OUT_OF_RESOURCES => "out of resources",
        Status::DEVICE_ERROR => "device error",
        Status::VOLUME_CORRUPTED => "volume corrupted",
        Status::UNSUPPORTED => "unsupported",
        Status(number) => return format!("{what}: EFI status {number:#x}"),
    };
    format!("{what}: {why}")
}

/// A file name as the firmware wants it.
fn utf16(name: &str) -> Vec<u16> {
    name.encode_utf16().map(|c| if c == u16::from(b'/') { u16::from(b'\\') } else { c }).chain([0]).collect()
}

impl Firmware {
    /// # Safety
    /// The arguments are those that the firmware gave to the application's entry point, and boot services are running.
    pub(crate) unsafe fn new(image: Handle, table: *const SystemTable) -> Self {
        Self { image, table, taken: ArrayVec::new() }
    }

    fn boot_services(&self) -> &BootServices {
        // SAFETY: `new`'s caller promised a valid system table with boot services running; `exit`, which ends them,
        // consumes this object.
        unsafe { &*(*self.table).boot_services }
    }

    /// Writes to the firmware's console, if it has one.
    pub(crate) fn print(&self, text: &str) {
        // SAFETY: the system table is valid (`new`).
        let out = unsafe { (*self.table).stdout };
        if out.is_null() {
            return;
        }
        let mut line: ArrayVec<u16, 128> = ArrayVec::new();
        let flush = |line: &mut ArrayVec<u16, 128>| {
            line.push(0);
            // SAFETY: the protocol is the firmware's; the text ends with a zero.
            let _ = unsafe { ((*out).output_string)(out, line.as_ptr()) };
            line.clear();
        };
        for unit in text.encode_utf16() {
            if unit == u16::from(b'\n') {
                line.push(u16::from(b'\r'));
            }
            line.push(unit);
            if line.remaining_capacity() < 3 {
                flush(&mut line);
            }
        }
        flush(&mut line);
    }

    fn take_pages(&mut self, bytes: u64, align: u64) -> Result<u64> {
        let extra = align.saturating_sub(PAGE_SIZE);
        let pages = bytes.div_ceil(PAGE_SIZE).saturating_add(extra / PAGE_SIZE);
        let (pages, mut address) = (usize::try_from(pages).map_err(|_| String::from("no memory"))?, 0);
        // SAFETY: boot services; `address` is written.
        let status = unsafe {
            (self.boot_services().allocate_pages)(
                AllocateType::ANY_PAGES,
                MemoryType::LOADER_DATA,
                pages,
                &mut address,
            )
        };
        check(status, || format!("no memory for {} KiB", bytes >> 10))?;
        if self.taken.try_push((address, pages)).is_err() {
            return Err(String::from("too many allocations"));
        }
        address.checked_next_multiple_of(align.max(PAGE_SIZE)).ok_or_else(|| String::from("no memory"))
    }

    /// Gives all pages back. Nothing that lies in them is used afterwards: not the heap either.
    fn release(&mut self) {
        for (address, pages) in core::mem::take(&mut self.taken) {
            // SAFETY: the pages came from `allocate_pages`, and the caller is done with them.
            let _ = unsafe { (self.boot_services().free_pages)(address, pages) };
        }
    }

    fn protocol<T>(&self, handle: Handle, guid: &Guid, what: &str) -> Result<*mut T> {
        let mut interface: *mut c_void = null_mut();
        // SAFETY: boot services; the interface pointer is written.
        let status = unsafe { (self.boot_services().handle_protocol)(handle, guid, &mut interface) };
        check(status, || String::from(what))?;
        if interface.is_null() { Err(String::from(what)) } else { Ok(interface.cast()) }
    }

    /// The root of the file system that the application came from, and the application's own path there.
    fn home(&self) -> Result<(File, String)> {
        let loaded: *mut LoadedImageProtocol = self.protocol(
            self.image,
            &LoadedImageProtocol::GUID,
            "the firmware does not say where this came from",
        )?;
        // SAFETY: the firmware's protocol instance for this image.
        let (device, path) = unsafe { ((*loaded).device_handle, (*loaded).file_path) };
        let what = "this was not loaded from a file system";
        if device.is_null() {
            return Err(String::from(what));
        }
        let volume: *mut SimpleFileSystemProtocol =
            self.protocol(device, &SimpleFileSystemProtocol::GUID, what)?;
        let mut root = null_mut();
        // SAFETY: the firmware's protocol instance; `root` is written.
        let status = unsafe { ((*volume).open_volume)(volume, &mut root) };
        check(status, || String::from("cannot open the boot file system"))?;
        // SAFETY: the path of a loaded image is a device path or null.
        Ok((File(root), unsafe { file_path(path.cast()) }))
    }

    fn open(&self, root: &File, name: &str) -> core::result::Result<File, Status> {
        let (name, mut file) = (utf16(name), null_mut());
        // SAFETY: `root` is open; the name ends with a zero; `file` is written.
        let status = unsafe {
            ((*root.0).open)(root.0, &mut file, name.as_ptr(), FileMode::READ, FileAttribute::empty())
        };
        if status == Status::SUCCESS && !file.is_null() { Ok(File(file)) } else { Err(status) }
    }

    /// Loads a file into pages of its own.
    fn load(&mut self, root: &File, name: &str, align: u64, limit: u64) -> Result<PaRange> {
        let file = self.open(root, name).map_err(|status| failure(&format!("cannot open {name}"), status))?;
        let mut size = 0;
        // SAFETY: the file is open; a position past the end is its end (UEFI 13.5, SetPosition), and is written to `size`.
        let status = unsafe {
            match ((*file.0).set_position)(file.0, u64::MAX) {
                Status::SUCCESS => ((*file.0).get_position)(file.0, &mut size),
                error => error,
            }
        };
        check(status, || format!("cannot tell the size of {name} (a directory?)"))?;
        if size == 0 || size > limit {
            return Err(format!("{name} is empty or too large: {size} bytes"));
        }
        let address = self.take_pages(size, align)?;
        let range = PaRange::new(Pa(address), size).ok_or_else(|| String::from("no memory"))?;
        // SAFETY: as above.
        let status = unsafe { ((*file.0).set_position)(file.0, 0) };
        check(status, || format!("cannot read {name}"))?;
        let mut done = 0;
        while done < size {
            // Some firmware fails on very large reads.
            let mut count = (size - done).min(1 << 20) as usize;
            // SAFETY: the file is open; the buffer is the part not yet filled of pages taken for this.
            let status = unsafe { ((*file.0).read)(file.0, &mut count, (address + done) as *mut c_void) };
            check(status, || format!("cannot read {name}"))?;
            if count == 0 {
                return Err(format!("{name} ended early, after {done} of {size} bytes"));
            }
            done += count as u64;
        }
        Ok(range)
    }

    /// The device tree in the firmware's configuration table.
    fn device_tree(&self) -> Option<&[u8]> {
        // SAFETY: the system table is valid (`new`), and its configuration table has as many entries as it says.
        let tables = unsafe {
            let table = &*self.table;
            if table.configuration_table.is_null() {
                return None;
            }
            core::slice::from_raw_parts(
                table.configuration_table,
                table.number_of_configuration_table_entries,
            )
        };
        let dtb =
            tables.iter().find(|table| table.vendor_guid == DEVICE_TREE_TABLE)?.vendor_table.cast::<u8>();
        // SAFETY: the table of this GUID is a device tree blob, whose header gives its length.
        unsafe { blob(dtb.cast_const()) }
    }

    /// The memory map: descriptors, and the key that names this state of it.
    fn memory_map(&self, buffer: &mut Vec<u64>) -> Result<(usize, usize, usize)> {
        let (mut size, mut key, mut stride, mut version) = (buffer.len() * 8, 0, 0, 0);
        // SAFETY: boot services; the buffer has `size` bytes and is aligned for descriptors.
        let status = unsafe {
            let map = buffer.as_mut_ptr().cast::<MemoryDescriptor>();
            (self.boot_services().get_memory_map)(&mut size, map, &mut key, &mut stride, &mut version)
        };
        check(status, || String::from("cannot read the firmware's memory map"))?;
        Ok((size.min(buffer.len() * 8), stride, key))
    }

    /// RAM that is free once the firmware has ended, and what stays the firmware's.
    fn memory(&self, buffer: &mut Vec<u64>) -> Result<(Vec<PaRange>, Vec<PaRange>)> {
        let (size, stride, _) = self.memory_map(buffer)?;
        let (mut free, mut kept) = (Vec::new(), Vec::new());
        let descriptor = size_of::<MemoryDescriptor>();
        if stride < descriptor || !stride.is_multiple_of(8) {
            return Err(String::from("the firmware's memory map has a form unknown here"));
        }
        for words in buffer.chunks_exact(stride / 8).take(size / stride) {
            // SAFETY: `words` holds at least a descriptor, aligned; any bit pattern is one.
            let entry = unsafe { &*words.as_ptr().cast::<MemoryDescriptor>() };
            let Some(range) = entry
                .page_count
                .checked_mul(PAGE_SIZE)
                .and_then(|size| PaRange::new(Pa(entry.phys_start), size))
            else {
                continue;
            };
            match entry.ty {
                // Runtime services are for an operating system that calls them; dom0 is not told of them.
                MemoryType::LOADER_CODE
                | MemoryType::LOADER_DATA
                | MemoryType::BOOT_SERVICES_CODE
                | MemoryType::BOOT_SERVICES_DATA
                | MemoryType::RUNTIME_SERVICES_CODE
                | MemoryType::RUNTIME_SERVICES_DATA
                | MemoryType::CONVENTIONAL
                | MemoryType::ACPI_RECLAIM => free.push(range),
                MemoryType::RESERVED
                | MemoryType::UNUSABLE
                | MemoryType::ACPI_NON_VOLATILE
                | MemoryType::PAL_CODE => kept.push(range),
                // Devices, and memory that is not for general use.
                _ => {}
            }
        }
        Ok((free, kept))
    }

    /// Loads everything and ends the firmware. On an error the firmware goes on, and has all its memory back.
    pub(crate) fn boot(mut self) -> Status {
        match self.prepare() {
            Ok((loaded, map)) => match self.exit(map) {
                Ok(()) => crate::aarch64::efi::leave(&loaded),
                Err(()) => {
                    // Boot services may be half gone: only the console is tried.
                    self.print("vambrace: the firmware does not end its boot services\n");
                    Status::DEVICE_ERROR
                }
            },
            Err(message) => {
                self.print("vambrace: ");
                self.print(&message);
                self.print("\n");
                drop(message);
                self.release();
                Status::LOAD_ERROR
            }
        }
    }

    fn prepare(&mut self) -> Result<(Loaded, Vec<u64>)> {
        let heap = self.take_pages(HEAP_SIZE as u64, PAGE_SIZE)?;
        // SAFETY: pages of the firmware's, for this alone; they are released when nothing on the heap is used any more.
        unsafe { crate::heap::lend(heap as usize, HEAP_SIZE) };

        let (root, own_path) = self.home()?;
        let (directory, own_name) = own_path.rsplit_once('\\').unwrap_or(("", &own_path));
        let stem = own_name.rsplit_once('.').map_or(own_name, |(stem, _)| stem);
        let names = [String::from("vambrace.cfg"), format!("{stem}.cfg"), String::from("xen.cfg")];
        let path = |name: &str| match name.as_bytes().first() {
            Some(b'/' | b'\\') => String::from(name),
            _ => format!("{directory}\\{name}"),
        };
        let found = names.iter().map(|name| path(name)).find(|path| self.open(&root, path).is_ok());
        let config_path = found.ok_or_else(|| format!("no vambrace.cfg in {directory}\\"))?;
        let text = self.load(&root, &config_path, PAGE_SIZE, config::LIMIT as u64)?;
        // SAFETY: the file has just been read into these pages, which stay as they are.
        let text = unsafe { core::slice::from_raw_parts(text.start.0 as *const u8, text.size() as usize) };
        let config = Config::parse(text).map_err(|error| format!("{config_path}: {error}"))?;

        let mut modules: ArrayVec<Module<'_>, 2> = ArrayVec::new();
        let range = self.load(&root, &path(config.kernel), KERNEL_ALIGNMENT, u64::MAX)?;
        modules.push(Module { kind: ModuleKind::Kernel, range, args: config.kernel_args });
        if let Some(name) = config.ramdisk {
            let range = self.load(&root, &path(name), PAGE_SIZE, u64::MAX)?;
            modules.push(Module { kind: ModuleKind::Ramdisk, range, args: "" });
        }
        let own_tree = match config.dtb {
            Some(name) => Some((name, self.load(&root, &path(name), PAGE_SIZE, MAX_BYTES as u64)?)),
            None => None,
        };
        drop(root);

        let mut map = vec![0; 8192];
        let (memory, reserved) = self.memory(&mut map)?;
        let tree = match own_tree {
            // SAFETY: the file was read into these pages, which stay as they are.
            Some((_, range)) => unsafe {
                core::slice::from_raw_parts(range.start.0 as *const u8, range.size() as usize)
            },
            None => self.device_tree().ok_or_else(|| {
                String::from(
                    "the firmware has no device tree (it uses ACPI; on QEMU start with -M virt,acpi=off)",
                )
            })?,
        };
        let additions = Additions {
            modules: &modules,
            options: config.options,
            memory: &memory,
            memory_counts: config.dtb.is_some(),
            reserved: &reserved,
        };
        let blob = tree::build(tree, &additions).map_err(|error| format!("the device tree: {error}"))?;
        let size = blob.len() as u64;
        let address = self.take_pages(size, PAGE_SIZE)?;
        // SAFETY: the pages have just been taken for this, and hold that many bytes.
        unsafe { core::ptr::copy_nonoverlapping(blob.as_ptr(), address as *mut u8, blob.len()) };
        let dtb = PaRange::new(Pa(address), size).ok_or_else(|| String::from("no memory"))?;
        let ranges = modules.iter().map(|module| module.range).chain([dtb]).collect();
        Ok((Loaded { dtb: dtb.start, ranges }, map))
    }

    /// Ends boot services. The map may change between its reading and the end; then both are tried again.
    fn exit(&self, mut map: Vec<u64>) -> core::result::Result<(), ()> {
        for _ in 0..8 {
            let Ok((_, _, key)) = self.memory_map(&mut map) else { return Err(()) };
            // SAFETY: boot services; after success none of them is called again: `boot` leaves at once.
            match unsafe { (self.boot_services().exit_boot_services)(self.image, key) } {
                Status::SUCCESS => {
                    // Its memory is the firmware's or the heap's, neither of which is kept.
                    core::mem::forget(map);
                    return Ok(());
                }
                Status::INVALID_PARAMETER => {}
                _ => return Err(()),
            }
        }
        Err(())
    }
}

/// The bytes of the device tree blob at `dtb`, by its header.
///
/// # Safety
/// `dtb` is null or points to readable memory, as much as its header says if that is one.
unsafe fn blob<'a>(dtb: *const u8) -> Option<&'a [u8]> {
    if dtb.is_null() || !dtb.addr().is_multiple_of(8) {
        return None;
    }
    // SAFETY: by this function's contract; aligned.
    let (magic, size) = unsafe { (u32::from_be(*dtb.cast()), u32::from_be(*dtb.cast::<u32>().add(1))) };
    if magic != 0xd00d_feed || size as usize > MAX_BYTES {
        return None;
    }
    // SAFETY: by this function's contract.
    Some(unsafe { core::slice::from_raw_parts(dtb, size as usize) })
}

/// The text of the file-path nodes of a device path (UEFI specification 2.10, 10.3.5.4).
///
/// # Safety
/// `path` is null or a device path.
unsafe fn file_path(path: *const u8) -> String {
    let (mut units, mut at) = (Vec::new(), 0);
    while !path.is_null() && at < PATH_LIMIT {
        // SAFETY: a device path is a row of nodes, each with a header of four bytes, up to one of type 0x7f.
        let header = unsafe { core::slice::from_raw_parts(path.add(at), 4) };
        let length = usize::from(u16::from_le_bytes([header[2], header[3]]));
        if header[0] == 0x7f || length < 4 {
            break;
        }
        if header[..2] == [4, 4] {
            // SAFETY: the node is as long as its header says.
            let text = unsafe { core::slice::from_raw_parts(path.add(at + 4), length - 4) };
            if units.last().is_some_and(|last| *last != u16::from(b'\\')) {
                units.push(u16::from(b'\\'));
            }
            units.extend(
                text.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).take_while(|c| *c != 0),
            );
        }
        at += length;
    }
    String::from_utf16_lossy(&units).replace('/', "\\")
}
