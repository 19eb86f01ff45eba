//! Compiling for bare metal with the toolchain of this machine, on a workspace of the hypervisor's shape.

use std::fs;
use std::path::{Path, PathBuf};

use vambrace::compile::{CompileRequest, Compiled, compile_hypervisor};
use vambrace::kernel::KernelImage;
use vambrace::progress::Progress;
use vambrace::toolchain::{AARCH64, CoreLibrary, Toolchain};

const MAIN: &str = r#"
#![no_std]
#![no_main]
core::arch::global_asm!(
    ".section .head, \"ax\"",
    ".globl _start",
    "_start: b {entry}",
    ".word 0",
    ".quad 0",
    ".quad __image_size",
    ".quad 0xa",
    ".quad 0, 0, 0",
    ".ascii \"ARM\\x64\"",
    ".word 0",
    entry = sym entry,
);
static mut WORK: [u8; 100_000] = [0; 100_000];
extern "C" fn entry(n: usize) -> ! {
    let board = option_env!("VAMBRACE_BOARD").unwrap_or("generic");
    let table: [&dyn Fn(usize) -> usize; 2] = [&|n| n + 1, &|n| n * 3];
    let value = helper::checked(table[n](n), board.as_bytes());
    unsafe { core::ptr::write_volatile(&raw mut WORK[n], value) };
    loop {}
}
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let file = info.location().map_or("", |location| location.file());
    unsafe { core::ptr::write_volatile(&raw mut WORK[0], file.len() as u8 + file.as_bytes()[0]) };
    loop {}
}
"#;

const SCRIPT: &str = "ENTRY(_start) SECTIONS { . = 0; .head : { KEEP(*(.head)) } .text : { *(.text .text.*) }
    .rodata : { *(.rodata .rodata.*) *(.data.rel.ro*) *(.got*) } .relr.dyn : { *(.relr.dyn) } .data : { *(.data .data.*) }
    .bss : { *(.bss .bss.*) } __image_size = ABSOLUTE(.);
    /DISCARD/ : { *(.dynamic .dynsym .dynstr .hash .gnu.hash .interp .eh_frame* .comment) } }";

fn workspace(folder: &Path) {
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"hypervisor\", \"hypervisor/helper\"]\n\
         [profile.hypervisor]\ninherits = \"release\"\nlto = \"fat\"\ncodegen-units = 1\npanic = \"abort\"\nstrip = \"debuginfo\"\n",
    );
    write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"helper\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"vambrace-hypervisor\"\n\
         version = \"0.1.0\"\ndependencies = [\n \"helper\",\n]\n",
    );
    write(
        "hypervisor/Cargo.toml",
        "[package]\nname = \"vambrace-hypervisor\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[features]\npl011 = []\n\
         [dependencies]\nhelper = { path = \"helper\" }\n",
    );
    write("hypervisor/src/main.rs", MAIN);
    write("hypervisor/link.ld", SCRIPT);
    write(
        "hypervisor/build.rs",
        "fn main() { let root = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n\
         for arg in [&format!(\"-T{root}/link.ld\"), \"-pie\", \"-zpack-relative-relocs\", \"-znotext\", \"--build-id=none\"] {\n\
         println!(\"cargo::rustc-link-arg-bins={arg}\"); } }\n",
    );
    write(
        "hypervisor/helper/Cargo.toml",
        "[package]\nname = \"helper\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    write(
        "hypervisor/helper/src/lib.rs",
        "#![no_std]\n#[inline(never)]\npub fn checked(n: usize, bytes: &[u8]) -> u8 { assert!(n < 10, \"no\"); bytes[n] }\n",
    );
}

fn request(workspace: PathBuf) -> CompileRequest {
    CompileRequest {
        target_dir: workspace.join("target"),
        workspace,
        target: AARCH64.into(),
        features: vec!["pl011".into()],
        env: vec![("VAMBRACE_BOARD".into(), "qemu-arm64".into())],
    }
}

/// A toolchain of this way, if this machine has one.
fn toolchain(core: CoreLibrary) -> Option<Toolchain> {
    let found = Toolchain::find_for(AARCH64, Some(core)).ok();
    assert!(
        found.is_some() || std::env::var_os("VAMBRACE_REQUIRE_TOOLS").is_none(),
        "no toolchain: {core:?}"
    );
    found
}

fn compile(toolchain: &Toolchain, request: &CompileRequest) -> Compiled {
    compile_hypervisor(toolchain, request, &Progress::quiet())
        .unwrap_or_else(|error| panic!("{}", error.report()))
}

#[test]
fn the_image_does_not_depend_on_its_folder() {
    let Some(toolchain) = toolchain(CoreLibrary::Installed) else { return };
    let dir = tempfile::tempdir().unwrap();
    let build = |name: &str| {
        workspace(&dir.path().join(name));
        let compiled = compile(&toolchain, &request(dir.path().join(name)));
        assert!(compiled.elf.is_file());
        compiled
    };
    let (first, second) = (build("one"), build("a much longer name/two"));
    assert!(first.flat == second.flat, "{} and {} bytes", first.flat.len(), second.flat.len());
    let image = KernelImage::parse(&first.flat).unwrap();
    assert_eq!(image.image_size, first.memory_size);
    assert!(first.memory_size >= first.flat.len() as u64 + 100_000, "what is zero is not in the file");
    let text = String::from_utf8_lossy(&first.flat);
    assert!(text.contains("qemu-arm64"), "the variable reached the sources");
    assert!(
        !text.contains(&*dir.path().to_string_lossy())
            && !text.contains("/home/")
            && !text.contains("/root/")
    );
    assert!(text.contains("hypervisor/helper/src/lib.rs"));
}

#[test]
fn a_fault_in_the_sources_is_shown() {
    let Some(toolchain) = toolchain(CoreLibrary::Installed) else { return };
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    let mut asked = request(dir.path().to_owned());
    asked.features.push("warp-drive".into());
    let fails = |request: &CompileRequest| {
        compile_hypervisor(&toolchain, request, &Progress::quiet()).unwrap_err().report()
    };
    assert!(fails(&asked).contains("warp-drive"));
    fs::write(dir.path().join("hypervisor/helper/src/lib.rs"), "fn oops(").unwrap();
    let report = fails(&request(dir.path().to_owned()));
    assert!(report.contains("cannot compile the hypervisor") && report.contains("fn oops("), "{report}");
}

/// Compiles the core library first, which takes half a minute.
#[test]
#[ignore = "slow: run with --ignored"]
fn the_core_library_can_be_compiled_too() {
    let Some(toolchain) = toolchain(CoreLibrary::Built) else { return };
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    let compiled = compile(&toolchain, &request(dir.path().to_owned()));
    KernelImage::parse(&compiled.flat).unwrap();
}
