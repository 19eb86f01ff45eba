//! Links the test kernel as a position-independent flat image; the Linux program beside it needs no script.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=image.ld");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if target("OS") != "none" || target("ARCH") != "aarch64" {
        return;
    }
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo::rustc-link-arg-bin=guest-tests=-T{root}/image.ld");
    for argument in ["-pie", "--no-dynamic-linker", "-znotext", "-znorelro", "--build-id=none"] {
        println!("cargo::rustc-link-arg-bin=guest-tests={argument}");
    }
}
