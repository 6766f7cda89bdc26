//! Lets the binary find libtorch by rpath, and records which compiler and libraries it was built with.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let libtorch = variable("LIBTORCH"); // set in .cargo/config.toml
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-env-changed=LIBTORCH");

    // site/torch/lib is where `./setup --cuda` puts libtorch_cuda.so, which main opens when it is there.
    for folder in ["lib", "site/torch/lib"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/{folder}");
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../../.libtorch/{folder}"); // a checkout that moved
    }

    let rustc = Command::new(variable("RUSTC")).arg("--version").output();
    let rustc = rustc.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_string()).unwrap_or_default();
    println!("cargo:rustc-env=GIST_RUSTC={rustc}");
    println!("cargo:rustc-env=GIST_TCH={}", locked_version("tch"));
    let stamp = Path::new(&libtorch).join("build-version");
    if stamp.exists() {
        println!("cargo:rerun-if-changed={}", stamp.display());
    }
    println!("cargo:rustc-env=GIST_LIBTORCH={}", fs::read_to_string(&stamp).unwrap_or("unknown".into()).trim());
}

/// The version of a crate in Cargo.lock.
fn locked_version(name: &str) -> String {
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map_or("", |(_, rest)| rest);
    entry.split('"').next().unwrap_or_default().to_string()
}
