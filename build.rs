//! Lets the binary find libtorch by rpath, and records which compiler and libraries it was built with.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{root}/.libtorch/lib");
    let rustc = env::var("RUSTC").ok().and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let rustc = rustc.map_or(String::new(), |answer| String::from_utf8_lossy(&answer.stdout).trim().to_string());
    println!("cargo:rustc-env=GIST_RUSTC={rustc}");
    println!("cargo:rustc-env=GIST_TCH=0.24.0");
    let libtorch = std::fs::read_to_string(Path::new(&root).join(".libtorch/build-version")).unwrap_or_default();
    println!("cargo:rustc-env=GIST_LIBTORCH={}", libtorch.trim());
}
