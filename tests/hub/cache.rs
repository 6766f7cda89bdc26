//! The cache that other tools use: found where they look for it, laid out as they lay it out.

use super::bytes::{git_sha1, sha256};
use super::server::{COMMIT, Hub, program};
use super::{WEIGHTS, assert_whole, refused, sharded, stdout, with_model};
use crate::common::{assert_says, files, world};
use std::fs;
use std::path::Path;

#[test]
fn the_cache_is_laid_out_as_the_python_client_has_it() {
    let folder = sharded();
    let hub = Hub::start(with_model("tiny/base"));
    hub.set(|rules| _ = rules.repositories.insert("tiny/shards".into(), folder.path().to_path_buf()));
    let snapshot = stdout(&hub.gist(&["fetch", "tiny/shards"], &[]));
    let repository = hub.cache().join("models--tiny--shards");
    assert_eq!(Path::new(snapshot.trim()), repository.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let config = fs::read(folder.path().join("config.json")).unwrap();
    let shard = fs::read(folder.path().join("model-00001-of-00003.safetensors")).unwrap();
    let link = |file: &str| fs::read_link(Path::new(snapshot.trim()).join(file)).unwrap();
    assert_eq!(link("config.json"), Path::new("../../blobs").join(git_sha1(&config)));
    assert_eq!(link("model-00001-of-00003.safetensors"), Path::new("../../blobs").join(sha256(&shard)));
    assert_eq!(link("1_Pooling/config.json"), Path::new("../../../blobs").join(git_sha1(b"{}")));
    let tag = fs::read_to_string(hub.cache().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    assert!(hub.cache().join(format!(".locks/models--tiny--shards/{}.lock", sha256(&shard))).exists());
    // By another revision, the same blobs: nothing is brought twice.
    hub.requests();
    let pull = stdout(&hub.gist(&["fetch", "tiny/shards", "--revision", "refs/pr/1"], &[]));
    assert_eq!(pull, snapshot);
    assert_eq!(fs::read_to_string(repository.join("refs/refs/pr/1")).unwrap(), COMMIT);
    assert!(hub.requests().iter().all(|request| !request.path.contains("resolve")));
    // Where links are not wanted, plain files.
    let variables = [("HF_HUB_DISABLE_SYMLINKS", "1")];
    let plain = stdout(&hub.gist(&["fetch", "tiny/base"], &variables));
    assert_whole(&plain, "no links");
    assert!(fs::symlink_metadata(Path::new(plain.trim()).join(WEIGHTS)).unwrap().is_file());
}

/// A cache with a model pinned by its commit, as the Python client leaves it: no ref.
fn pinned(root: &Path) {
    let snapshot = root.join("models--tiny--base/snapshots").join(COMMIT);
    let blobs = root.join("models--tiny--base/blobs");
    fs::create_dir_all(&snapshot).and_then(|()| fs::create_dir_all(&blobs)).unwrap();
    for (path, content) in files(&world().root.join("base")) {
        let name = if content.len() > 10_000 { sha256(&content) } else { git_sha1(&content) };
        fs::write(blobs.join(&name), content).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(name), snapshot.join(path)).unwrap();
    }
}

#[test]
fn a_commit_needs_no_ref_and_a_ref_may_end_in_a_line_break() {
    super::finished();
    let home = tempfile::tempdir().unwrap();
    let offline = |arguments: &[&str]| {
        let arguments = [&["fetch", "tiny/base", "--offline"], arguments].concat();
        program(&arguments).env("HF_HOME", home.path()).output().unwrap()
    };
    pinned(&home.path().join("hub"));
    let before = files(home.path());
    assert_whole(&stdout(&offline(&["--revision", COMMIT])), "a commit");
    let said = refused(2, &offline(&[]));
    assert_says(&said, &["at revision main", "the cache lacks config.json", COMMIT], "another revision is there");
    let other = "f".repeat(40);
    assert_says(
        &refused(2, &offline(&["--revision", &other])),
        &[&other, &format!("--revision {other}` brings it")],
        "another",
    );
    assert!(files(home.path()) == before, "looking changes nothing");
    let refs = home.path().join("hub/models--tiny--base/refs");
    fs::create_dir_all(refs.join("refs/pr")).unwrap();
    for (name, content) in
        [("main", format!("{COMMIT}\n")), ("v1.0", format!("{COMMIT}\r\n")), ("refs/pr/1", COMMIT.into())]
    {
        fs::write(refs.join(name), content).unwrap();
        assert_whole(&stdout(&offline(&["--revision", name])), name);
    }
    for content in ["", "\n", "../../elsewhere"] {
        fs::write(refs.join("main"), content).unwrap();
        assert_says(&refused(2, &offline(&[])), &["the cache lacks config.json"], content);
    }
}

#[test]
fn the_cache_is_found_where_its_variables_say() {
    super::finished();
    let place = tempfile::tempdir().unwrap();
    let root = place.path().to_str().unwrap();
    let path = |rest: &str| format!("{root}/{rest}");
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Variables); 8] = [
        ("home/.cache/huggingface/hub", &[]),
        ("xdg/huggingface/hub", &[("XDG_CACHE_HOME", &path("xdg"))]),
        ("hf/hub", &[("HF_HOME", &path("hf")), ("XDG_CACHE_HOME", &path("xdg"))]),
        ("older", &[("HUGGINGFACE_HUB_CACHE", &path("older")), ("HF_HOME", &path("hf"))]),
        ("hub cache", &[("HF_HUB_CACHE", &path("hub cache")), ("HUGGINGFACE_HUB_CACHE", &path("older"))]),
        ("home/mine/hub", &[("HF_HOME", "~/mine")]),
        ("home/there", &[("HF_HUB_CACHE", "~/there")]),
        ("home/by name", &[("HF_HUB_CACHE", "$HOME/by name")]),
    ];
    for (folder, variables) in cases {
        let cache = place.path().join(folder);
        pinned(&cache);
        let mut program = program(&["fetch", "tiny/base", "--offline", "--revision", COMMIT]);
        let output = program.env("HOME", path("home")).envs(variables.iter().copied()).output().unwrap();
        let found = stdout(&output);
        assert!(Path::new(found.trim()).starts_with(&cache), "{variables:?}: {found}");
        assert_whole(&found, folder);
        fs::remove_dir_all(&cache).unwrap();
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let hub = Hub::start(with_model("tiny/base"));
    let file = hub.home.path().join("a file");
    fs::write(&file, "").unwrap();
    let said = refused(1, &hub.gist(&["fetch", "tiny/base"], &[("HF_HUB_CACHE", file.to_str().unwrap())]));
    assert_says(&said, &["a file/models--tiny--base", "Not a directory", "HF_HUB_CACHE"], "no folder");
    // A full disk: what arrives goes to a device that has no room.
    let blobs = hub.cache().join("models--tiny--base/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let weights = sha256(&fs::read(world().root.join("base").join(WEIGHTS)).unwrap());
    std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{weights}.incomplete"))).unwrap();
    let said = refused(1, &hub.gist(&["fetch", "tiny/base"], &[]));
    assert_says(&said, &[&weights, "No space left on device", "make room, and the same command goes on"], "full");
    fs::remove_file(blobs.join(format!("{weights}.incomplete"))).unwrap();
    assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &[])), "room");
}
