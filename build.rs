//! Lets the binary find libtorch by rpath, and records what it was built from and with: commit, sources, compiler, libraries.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files and folders that decide what the binary does.
const SOURCES: [&str; 6] = ["src", "build.rs", "Cargo.toml", "Cargo.lock", ".cargo/config.toml", "rust-toolchain.toml"];

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let libtorch = variable("LIBTORCH"); // set in .cargo/config.toml
    println!("cargo:rerun-if-env-changed=LIBTORCH");

    // site/torch/lib is where `./setup --cuda` puts libtorch_cuda.so, which main opens when it is there.
    for folder in ["lib", "site/torch/lib"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/{folder}");
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../../.libtorch/{folder}"); // a checkout that moved
    }

    kernels(&libtorch);

    let rustc = Command::new(variable("RUSTC")).arg("--version").output();
    let rustc = rustc.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_string()).unwrap_or_default();
    println!("cargo:rustc-env=GIST_RUSTC={rustc}");
    println!("cargo:rustc-env=GIST_TCH={}", locked_version("tch"));
    let stamp = Path::new(&libtorch).join("build-version");
    watch(&stamp);
    println!("cargo:rustc-env=GIST_LIBTORCH={}", fs::read_to_string(&stamp).unwrap_or("unknown".into()).trim());

    SOURCES.iter().for_each(|source| watch(Path::new(source)));
    let (commit, dirty) = commit().unwrap_or(("unknown".into(), "unknown"));
    println!("cargo:rustc-env=GIST_COMMIT={commit}");
    println!("cargo:rustc-env=GIST_DIRTY={dirty}");
    println!("cargo:rustc-env=GIST_SOURCE={}", source_digest());
}

/// Compiles what is written in C++ against libtorch's headers.
fn kernels(libtorch: &str) {
    let include = Path::new(libtorch).join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flags(["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]) // or loops with a choice stay scalar
        .flag("-Wno-maybe-uninitialized") // seen by mistake in libtorch's headers
        .flag(format!("-isystem{}", include.display()))
        .flag(format!("-isystem{}", include.join("torch/csrc/api/include").display()))
        .file("src/model/kernels/kernels.cpp")
        .compile("gist_kernels");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .warnings(false) // libtorch's headers hide methods of their base classes
        .include("src/parallel") // stand-ins for gloo's headers, which libtorch leaves out
        .flag(format!("-isystem{}", include.display()))
        .flag(format!("-isystem{}", include.join("torch/csrc/api/include").display()))
        .file("src/parallel/ranks.cpp")
        .compile("gist_ranks");
}

/// Has cargo run this script again when the file or folder changes. A missing one would have it run every time.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// The commit that is checked out here, and whether the sources differ from it; nothing where this folder is no checkout of
/// its own, such as an archive unpacked inside another project.
fn commit() -> Option<(String, &'static str)> {
    let top = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if top != fs::canonicalize(env::var_os("CARGO_MANIFEST_DIR")?).ok()? {
        return None;
    }
    // The first changes with the branch, the second with every commit; the third where no log of commits is kept.
    let branch = git(&["symbolic-ref", "-q", "HEAD"]).unwrap_or("HEAD".into());
    for name in ["HEAD", "logs/HEAD", &branch] {
        git(&["rev-parse", "--git-path", name]).into_iter().for_each(|path| watch(Path::new(&path)));
    }
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&[&["--no-optional-locks", "status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some((commit, if changes.is_empty() { "false" } else { "true" }))
}

/// The answer of git about this folder, whoever owns it; nothing where it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").args(["-c", "safe.directory=*"]).args(arguments).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_string())
}

/// A digest over names and contents of the sources: tells two builds apart that have no commit, or changes on top of one. Of
/// the standard library's, so that the script needs no crate; another version of it may give another digest.
fn source_digest() -> String {
    let mut files = Vec::new();
    SOURCES.iter().for_each(|source| walk(Path::new(source), &mut files));
    files.sort();
    let mut digest = DefaultHasher::new();
    for file in files {
        let content = fs::read(&file).unwrap_or_default();
        (file, content).hash(&mut digest);
    }
    format!("{:016x}", digest.finish())
}

/// The files under a path; hidden ones are an editor's.
fn walk(path: &Path, files: &mut Vec<PathBuf>) {
    let visible = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().filter(visible).for_each(|entry| walk(&entry.path(), files)),
        Err(_) => files.extend(path.is_file().then(|| path.to_path_buf())),
    }
}

/// The version of a crate in Cargo.lock.
fn locked_version(name: &str) -> String {
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map_or("", |(_, rest)| rest);
    entry.split('"').next().unwrap_or_default().to_string()
}
