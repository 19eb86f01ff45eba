//! Links the bare-metal binary as a position-independent flat image.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=hal/link.ld");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if target("OS") != "none" || !["aarch64", "arm"].contains(&target("ARCH").as_str()) {
        return;
    }
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo::rustc-link-arg-bins=-T{root}/hal/link.ld");
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        // Start-up code applies the compact RELR form.
        "-zpack-relative-relocs",
        // The precompiled core library keeps tables of addresses in read-only sections; they are relocated before
        // anything is mapped read-only.
        "-znotext",
        "-znorelro",
        "-zmax-page-size=4096",
        "--build-id=none",
        "--orphan-handling=warn",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
