//! What the tests of whole images share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use vambrace::disk::{DiskSpec, write_image};
use vambrace::progress::Progress;

/// Bytes that are the same for the same seed.
pub(crate) fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    (0..length)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
        .collect()
}

/// Writes the image into a folder of its own, which goes when it is dropped.
pub(crate) fn write(spec: &DiskSpec) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    write_image(&path, spec, &Progress::quiet()).unwrap();
    (dir, path)
}

/// Runs a tool that not every machine has; `None` where it is missing.
pub(crate) fn tool(program: &str, args: &[&str]) -> Option<Output> {
    let sbin = Path::new("/usr/sbin").join(program);
    let program = if sbin.exists() { sbin } else { program.into() };
    match Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("MTOOLS_SKIP_CHECK", "0")
        .output()
    {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("{}: {error}", args.join(" "));
            assert!(std::env::var_os("VAMBRACE_REQUIRE_TOOLS").is_none(), "a tool is missing");
            None
        }
    }
}

/// All that a tool said.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
