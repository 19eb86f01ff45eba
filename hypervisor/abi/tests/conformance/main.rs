//! Compares this crate with the C headers of Xen, as the ARM ABI reads them.
//!
//! The headers of Debian's `libxen-dev` in `/usr/include/xen` are read, and those in every directory that
//! `VAMBRACE_XEN_HEADERS` lists (separated by `:`), which may be of another release. Nothing built from them
//! is run: a C compiler writes the values into its assembler output, so that any host can check the ABI of
//! both ARM widths. Without headers or a compiler the test says so and is skipped, but not where `CI` is set:
//! there it fails.

mod compiler;
mod constants;
mod layouts;
mod source;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compiler::{Compiler, Headers, Macros};
use constants::constants;
use layouts::layouts;

/// A number that crosses the boundary.
#[derive(Clone)]
pub(crate) struct Constant {
    /// Module and name in this crate.
    pub(crate) rust: &'static str,
    /// Name in the headers, in any case.
    pub(crate) c: String,
    /// This crate's value, sign-extended.
    pub(crate) value: i128,
    /// First domctl interface version whose headers have it; 0 for all.
    pub(crate) since: u32,
}

/// A type that crosses the boundary.
#[derive(Clone)]
pub(crate) struct Layout {
    /// Module and name in this crate.
    pub(crate) rust: &'static str,
    /// Name of the type in the headers.
    pub(crate) c: &'static str,
    /// Bytes.
    pub(crate) size: usize,
    /// Alignment in bytes.
    pub(crate) align: usize,
    /// Fields but implicit padding: name here, path in C (`a..b` for a run of fields), offset, size.
    pub(crate) fields: Vec<(&'static str, &'static str, usize, usize)>,
    /// As in [`Constant`].
    pub(crate) since: u32,
    /// Last domctl interface version whose headers have it so.
    pub(crate) until: u32,
}

impl Layout {
    fn is_of(&self, domctl: u32) -> bool {
        (self.since..=self.until).contains(&domctl)
    }
}

/// A release of Xen, known by the interface versions of its toolstack.
struct Release {
    name: &'static str,
    domctl: u32,
    sysctl: u32,
}

const RELEASES: [Release; 2] = [
    Release {
        name: "4.17",
        domctl: vambrace_abi::domctl::XEN_DOMCTL_INTERFACE_VERSION_4_17,
        sysctl: vambrace_abi::sysctl::XEN_SYSCTL_INTERFACE_VERSION_4_17,
    },
    Release {
        name: "4.20",
        domctl: vambrace_abi::domctl::XEN_DOMCTL_INTERFACE_VERSION_4_20,
        sysctl: vambrace_abi::sysctl::XEN_SYSCTL_INTERFACE_VERSION_4_20,
    },
];

/// What the headers say, by the key that [`measure`] asked under.
type Measured = BTreeMap<String, i128>;

/// Directories with a `xen.h`, those of the environment first.
fn header_directories() -> Vec<PathBuf> {
    let listed = std::env::var("VAMBRACE_XEN_HEADERS").unwrap_or_default();
    let mut found = Vec::new();
    for directory in listed.split(':').filter(|d| !d.is_empty()) {
        let directory = Path::new(directory);
        let headers =
            [directory.to_path_buf(), directory.join("xen")].into_iter().find(|d| d.join("xen.h").is_file());
        // A directory that was asked for and is not there must not pass for one that agrees.
        found.push(
            headers.unwrap_or_else(|| panic!("VAMBRACE_XEN_HEADERS: no xen.h in {}", directory.display())),
        );
    }
    let installed = PathBuf::from("/usr/include/xen");
    if installed.join("xen.h").is_file() && !found.contains(&installed) {
        found.push(installed);
    }
    found
}

/// Prints why nothing can be compared; a failure where `CI` is set.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
}

/// The C expressions of a layout: key, expression.
fn layout_questions(layout: &Layout) -> Vec<(String, String)> {
    let c = layout.c;
    let mut questions = vec![
        (format!("{} size", layout.rust), format!("sizeof({c})")),
        (format!("{} align", layout.rust), format!("__alignof__({c})")),
    ];
    for &(rust, path, ..) in &layout.fields {
        let (first, last) = path.split_once("..").unwrap_or((path, path));
        let offset = |field: &str| format!("__builtin_offsetof({c}, {field})");
        let size = format!("{} + sizeof((({c} *)0)->{last}) - {}", offset(last), offset(first));
        questions.push((format!("{}.{rust} offset", layout.rust), offset(first)));
        questions.push((format!("{}.{rust} size", layout.rust), size));
    }
    questions
}

/// Asks the compiler for everything in the tables that headers of interface version `domctl` should have.
fn measure(compiler: &Compiler, headers: &Headers, macros: &Macros, domctl: u32) -> Result<Measured, String> {
    let mut questions = Vec::new();
    for constant in constants().iter().filter(|c| c.since <= domctl) {
        // An enumerator is no macro, and stands in parentheses.
        if constant.c.starts_with('(') {
            questions.push((constant.rust.to_string(), constant.c.clone()));
            continue;
        }
        match macros.resolve(&constant.c) {
            Ok(name) => questions.push((constant.rust.to_string(), name.to_string())),
            Err(why) => return Err(format!("{}: {why}", constant.rust)),
        }
    }
    for errno in vambrace_abi::errno::Errno::ALL {
        questions.push((format!("{errno:?}"), format!("XEN_{errno:?}")));
    }
    for layout in layouts().iter().filter(|l| l.is_of(domctl)) {
        questions.extend(layout_questions(layout));
    }
    for (rust, c, _) in tables::types() {
        questions.push((rust.to_string(), format!("sizeof({c})")));
    }
    for (rust, c, bytes) in tables::uuids() {
        for index in 0..bytes.len() {
            questions.push((format!("{rust}[{index}]"), format!("{c}.a[{index}]")));
        }
    }
    compiler.values(headers, &questions)
}

/// Every difference between the tables and what was measured, in words.
fn differences(measured: &Measured, domctl: u32, constants: &[Constant], layouts: &[Layout]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |key: String, ours: i128| match measured.get(&key) {
        // The compiler prints 64 bits and may take them for signed.
        Some(theirs) if *theirs as u64 == ours as u64 => {}
        Some(theirs) => wrong.push(format!("{key}: {ours:#x} here, {theirs:#x} in the headers")),
        None => wrong.push(format!("{key}: {ours:#x} here, nothing in the headers")),
    };
    for constant in constants.iter().filter(|c| c.since <= domctl) {
        check(constant.rust.to_string(), constant.value);
    }
    for errno in vambrace_abi::errno::Errno::ALL {
        check(format!("{errno:?}"), errno.number().into());
    }
    for layout in layouts.iter().filter(|l| l.is_of(domctl)) {
        check(format!("{} size", layout.rust), layout.size as i128);
        check(format!("{} align", layout.rust), layout.align as i128);
        for &(rust, _, offset, size) in &layout.fields {
            check(format!("{}.{rust} offset", layout.rust), offset as i128);
            check(format!("{}.{rust} size", layout.rust), size as i128);
        }
    }
    for (rust, _, size) in tables::types() {
        check(rust.to_string(), size as i128);
    }
    for (rust, _, bytes) in tables::uuids() {
        for (index, byte) in bytes.iter().enumerate() {
            check(format!("{rust}[{index}]"), (*byte).into());
        }
    }
    wrong
}

/// What this crate should have and has not, and what it marks as newer than it is.
fn gaps(macros: &Macros, domctl: u32) -> Vec<String> {
    let known = constants();
    let mut wrong = Vec::new();
    for constant in known.iter().filter(|c| c.since > domctl) {
        if macros.resolve(&constant.c).is_ok() {
            wrong.push(format!("{}: marked as newer than these headers, but they have it", constant.rust));
        }
    }
    for (prefix, not_ours) in tables::FAMILIES {
        for name in macros.with_prefix(prefix) {
            if !known.iter().any(|c| c.c.eq_ignore_ascii_case(name)) && !not_ours.contains(&name) {
                wrong.push(format!("{name}: in the headers, not in this crate"));
            }
        }
    }
    wrong
}

#[test]
fn agrees_with_the_headers() {
    let directories = header_directories();
    if directories.is_empty() {
        return skip("no Xen headers: install libxen-dev or set VAMBRACE_XEN_HEADERS");
    }
    let compilers = Compiler::find();
    if compilers.is_empty() {
        return skip("no C compiler: install gcc-aarch64-linux-gnu or gcc");
    }
    for directory in directories {
        let headers = Headers::new(directory).expect("the target directory is writable");
        for compiler in &compilers {
            let place = format!("{} as {}", headers.directory.display(), compiler.abi);
            let macros = compiler.macros(&headers).unwrap_or_else(|why| panic!("{place}: {why}"));
            let versions = ["XEN_DOMCTL_INTERFACE_VERSION", "XEN_SYSCTL_INTERFACE_VERSION"];
            let found = compiler
                .values(&headers, &versions.map(|v| (v.to_string(), v.to_string())))
                .unwrap_or_else(|why| panic!("{place}: {why}"));
            let [domctl, sysctl] = versions.map(|v| found[v] as u32);
            let release =
                RELEASES.iter().find(|r| (r.domctl, r.sysctl) == (domctl, sysctl)).unwrap_or_else(|| {
                    panic!("{place}: domctl {domctl:#x}, sysctl {sysctl:#x}: no release this crate serves")
                });

            let measured =
                measure(compiler, &headers, &macros, domctl).unwrap_or_else(|why| panic!("{place}: {why}"));
            let mut wrong = differences(&measured, domctl, &constants(), &layouts());
            wrong.extend(gaps(&macros, domctl));
            assert!(wrong.is_empty(), "{place} (Xen {}):\n{}", release.name, wrong.join("\n"));
            println!("{place}: Xen {}, {} values agree", release.name, measured.len());
            notices_a_wrong_number(&measured, domctl);
        }
    }
}

/// Shows that agreement means something: one wrong number and one moved field are each found.
fn notices_a_wrong_number(measured: &Measured, domctl: u32) {
    let (mut constants, mut layouts) = (constants(), layouts());
    constants[0].value += 1;
    assert_eq!(differences(measured, domctl, &constants, &layouts).len(), 1);
    constants[0].value -= 1;
    layouts[0].fields[0].2 += 1;
    assert_eq!(differences(measured, domctl, &constants, &layouts).len(), 1);
}

#[test]
fn tables_name_everything_in_the_crate() {
    let mut wrong = Vec::new();
    let (constants, layouts, types) = (constants(), layouts(), tables::types());
    // As cargo says when it runs this, not when it compiled it: a shared target folder outlives the checkout.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    let items = source::items(&Path::new(&package).join("src"));
    assert!(items.len() > 1000, "the source scan found only {} items", items.len());
    for item in &items {
        let compared = constants.iter().any(|c| c.rust == item)
            || types.iter().any(|(rust, ..)| rust == item)
            || tables::uuids().iter().any(|(rust, ..)| rust == item)
            || layouts.iter().any(|l| {
                l.rust == item
                    || item.strip_prefix(l.rust).is_some_and(|rest| {
                        rest.strip_prefix('.').is_some_and(|field| l.fields.iter().any(|f| f.0 == field))
                    })
            });
        let own = tables::NOT_IN_HEADERS.contains(&item.as_str());
        match (compared, own) {
            (true, true) => wrong.push(format!("{item}: compared, yet listed as not in the headers")),
            (false, false) => {
                wrong.push(format!("{item}: not compared; add it to tests/conformance/tables.rs"))
            }
            _ => {}
        }
    }
    for own in tables::NOT_IN_HEADERS {
        if !items.iter().any(|item| item == own) {
            wrong.push(format!("{own}: listed as not in the headers, but not in this crate"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
