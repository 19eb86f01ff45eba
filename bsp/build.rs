//! Lists every folder under `boards/`, so that a new board is a new folder and nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let boards = manifest.join("boards");
    println!("cargo::rerun-if-changed={}", boards.display());
    let mut descriptions = Vec::new();
    for entry in fs::read_dir(&boards)? {
        let folder = entry?.path();
        let file = folder.join("board.toml");
        println!("cargo::rerun-if-changed={}", folder.display());
        if let (true, Some(name)) = (file.is_file(), folder.file_name().and_then(|name| name.to_str())) {
            descriptions.push((name.to_owned(), file));
        }
    }
    descriptions.sort();
    let mut code = String::from("&[\n");
    for (name, file) in &descriptions {
        println!("cargo::rerun-if-changed={}", file.display());
        let _ = writeln!(code, "    ({name:?}, include_str!({:?})),", file.display().to_string());
    }
    code.push_str("]\n");
    fs::write(Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("embedded.rs"), code)
}
