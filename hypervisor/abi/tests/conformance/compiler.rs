//! A C compiler that answers questions about headers without running what it compiles.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Headers that are compared, relative to their directory.
const HEADERS: [&str; 17] = [
    "xen.h",
    "errno.h",
    "version.h",
    "features.h",
    "memory.h",
    "event_channel.h",
    "vcpu.h",
    "grant_table.h",
    "hvm/hvm_op.h",
    "hvm/params.h",
    "sched.h",
    "physdev.h",
    "platform.h",
    "domctl.h",
    "sysctl.h",
    "arch-arm/smccc.h",
    "io/console.h",
];

/// Starts a line of assembler output that holds an answer.
const MARK: &str = "@vambrace@";

/// A compiler with the flags that make it read headers as one of the ARM ABIs.
pub(crate) struct Compiler {
    /// The ABI, for messages.
    pub(crate) abi: &'static str,
    program: &'static str,
    flags: &'static [&'static str],
}

/// A compiler that can serve for each width, best first. A cross compiler knows its own layout; the host's is
/// told to read the headers as AArch64, which lays out the fixed-width types of the ABI the same way on
/// 64-bit hosts.
const CANDIDATES: [&[Compiler]; 2] = [
    &[
        Compiler { abi: "AArch64", program: "aarch64-linux-gnu-gcc", flags: &[] },
        Compiler {
            abi: "AArch64 by the host's compiler",
            program: "cc",
            flags: &["-U__x86_64__", "-U__i386__", "-D__aarch64__"],
        },
    ],
    &[
        Compiler { abi: "AArch32", program: "arm-linux-gnueabihf-gcc", flags: &[] },
        Compiler { abi: "32-bit (ILP32)", program: "aarch64-linux-gnu-gcc", flags: &["-mabi=ilp32"] },
    ],
];

impl Compiler {
    /// The best compiler that is installed for 64 bits, and for 32 if there is one.
    pub(crate) fn find() -> Vec<&'static Self> {
        let works = |c: &&Self| c.run(&["-fsyntax-only"], "int here;\n").is_ok();
        CANDIDATES.iter().filter_map(|width| width.iter().find(works)).collect()
    }

    /// All macros that the headers define.
    pub(crate) fn macros(&self, headers: &Headers) -> Result<Macros, String> {
        let text = self.run(&["-E", "-dM", "-I", &headers.include], &headers.program)?;
        let names = text.lines().filter_map(|line| line.strip_prefix("#define ")?.split([' ', '(']).next());
        Ok(Macros(names.map(str::to_string).collect()))
    }

    /// The values of C expressions after the headers: for each key, its expression's.
    pub(crate) fn values(
        &self,
        headers: &Headers,
        questions: &[(String, String)],
    ) -> Result<BTreeMap<String, i128>, String> {
        let mut program = headers.program.clone();
        program.push_str("void values(void) {\n");
        for (index, (_, expression)) in questions.iter().enumerate() {
            let line =
                format!("__asm__ volatile(\"{MARK} {index} %0\" :: \"i\"((long long)({expression})));\n");
            program.push_str(&line);
        }
        program.push_str("}\n");
        let assembler = self.run(&["-S", "-O1", "-o", "-", "-I", &headers.include], &program)?;
        let mut values = BTreeMap::new();
        for line in assembler.lines().filter_map(|line| line.trim().strip_prefix(MARK)) {
            let answer = line.trim().split_once(' ').and_then(|(index, value)| {
                Some((
                    &questions.get(index.parse::<usize>().ok()?)?.0,
                    value.trim().trim_start_matches(['#', '$']).parse::<i128>().ok()?,
                ))
            });
            let (key, value) =
                answer.ok_or_else(|| format!("{}: cannot read its answer {line:?}", self.program))?;
            values.insert(key.clone(), value);
        }
        Ok(values)
    }

    /// Compiles `program` from standard input, and returns what was written to standard output.
    fn run(&self, arguments: &[&str], program: &str) -> Result<String, String> {
        let mut child = Command::new(self.program)
            .args(self.flags)
            .args(["-std=gnu99", "-ffreestanding", "-D__XEN_TOOLS__", "-w", "-xc"])
            .args(arguments)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program))?;
        let mut input = child.stdin.take().expect("standard input was asked for");
        // A compiler that stops early closes its input; what it printed says why.
        let _ = input.write_all(program.as_bytes());
        drop(input);
        let output = child.wait_with_output().map_err(|error| format!("{}: {error}", self.program))?;
        if !output.status.success() {
            return Err(format!("{}: {}", self.program, String::from_utf8_lossy(&output.stderr)));
        }
        String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", self.program))
    }
}

/// A directory of headers, ready to be compiled.
pub(crate) struct Headers {
    /// The directory, for messages.
    pub(crate) directory: PathBuf,
    /// Where `public/` leads to that directory: some headers name each other as Xen's own source tree does.
    include: String,
    /// The lines that include them all.
    program: String,
}

impl Headers {
    /// Prepares the headers in `directory`.
    pub(crate) fn new(directory: PathBuf) -> std::io::Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let include =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("xen-{}-{serial}", std::process::id()));
        std::fs::create_dir_all(&include)?;
        std::os::unix::fs::symlink(directory.canonicalize()?, include.join("public"))?;
        let lines = HEADERS.map(|header| format!("#include \"public/{header}\"\n"));
        let program = format!("#include <stdint.h>\n{}", lines.concat());
        Ok(Self { directory, include: include.display().to_string(), program })
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // Only the link lies there; left behind, it would do no harm.
        let _ = std::fs::remove_dir_all(&self.include);
    }
}

/// The macros of a set of headers.
pub(crate) struct Macros(Vec<String>);

impl Macros {
    /// The macro of this name, or the only one that differs from it by case alone.
    pub(crate) fn resolve(&self, name: &str) -> Result<&str, String> {
        if let Some(exact) = self.0.iter().find(|m| *m == name) {
            return Ok(exact);
        }
        let mut alike = self.0.iter().filter(|m| m.eq_ignore_ascii_case(name));
        match (alike.next(), alike.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(format!("the headers have no {name}")),
            (Some(one), Some(other)) => Err(format!("{name} could be {one} or {other}")),
        }
    }

    /// The macros whose names start with `prefix`.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(move |m| m.starts_with(prefix))
    }
}
