#!/usr/bin/env python3
"""One cache and two tools: what `gist fetch` brings, Python's huggingface_hub finds, and the other way round.

    check_hub.py GIST FOLDER

FOLDER holds the files of a model; a server made here serves them as the Hub does, on this machine alone. `check` runs it.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GIST, FOLDER = sys.argv[1], Path(sys.argv[2])
NAME = "tiny/base"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.is_file() and path.name != "record.json"}
brought = []


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        listed = [(f"/api/models/{NAME}/revision/{name}", name) for name in ("main", COMMIT)] + [(f"/api/models/{NAME}", "")]
        if any(path == address for address, _ in listed):
            body = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self.say(200, {"Content-Type": "application/json"}, json.dumps(body).encode())
        if path.startswith(f"/api/models/{NAME}/tree/"):
            tree = []
            for name, content in FILES.items():
                entry = {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
                if name.endswith(".safetensors"):
                    entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
                tree.append(entry)
            return self.say(200, {"Content-Type": "application/json"}, json.dumps(tree).encode())
        start, _, name = path.rpartition("/")
        if start not in [f"/{NAME}/resolve/{revision}" for revision in ("main", COMMIT)] or name not in FILES:
            return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        content = FILES[name]
        is_large = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if is_large else git_sha1(content)
        if self.command == "GET":
            brought.append(name)
        self.say(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}, content)


def start(command, **variables):
    """A program that ran with these variables and none other of the Hub's."""
    starts = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_CACHE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(starts) and not key.lower().endswith("_proxy")}
    return subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def run(command, **variables):
    """What it prints; it must succeed."""
    done = start(command, **variables)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def gist(*arguments, **variables):
    return Path(run([GIST, "fetch", NAME, *arguments], **variables))


def python(code, **variables):
    return run([sys.executable, "-c", f"from huggingface_hub import *\nfrom huggingface_hub import constants\n{code}"], HF_HUB_DISABLE_TELEMETRY="1", **variables)


def assert_whole(folder):
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content, f"{folder / name} is not what was served"


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        # Brought by gist, found by huggingface_hub.
        home = {"HF_HOME": str(place / "gist")}
        folder = gist(**home, **endpoint)
        assert_whole(folder)
        offline = {**home, "HF_HUB_OFFLINE": "1"}
        for revision in ("main", COMMIT):
            files = python(f"for name in {list(FILES)}: print(hf_hub_download({NAME!r}, name, revision={revision!r}))", **offline)
            assert files.splitlines() == [str(folder / name) for name in FILES], files
            assert Path(python(f"print(snapshot_download({NAME!r}, revision={revision!r}))", **offline)) == folder
        scanned = python("cache = scan_cache_dir(); print(len(cache.repos), len(cache.warnings), cache.size_on_disk)", **home)
        assert scanned == f"1 0 {sum(map(len, FILES.values()))}", scanned
        brought.clear()
        assert Path(python(f"print(snapshot_download({NAME!r}))", **home, **endpoint)) == folder
        assert not brought, f"huggingface_hub brought again what gist had: {brought}"
        # Brought by huggingface_hub, found by gist: by a branch, and by a commit, which leaves no ref.
        for revision, flags in (("main", []), (COMMIT, ["--revision", COMMIT])):
            home = {"HF_HOME": str(place / f"python-{revision}")}
            folder = Path(python(f"print(snapshot_download({NAME!r}, revision={revision!r}))", **home, **endpoint))
            brought.clear()
            assert gist(*flags, "--offline", **home) == folder
            assert gist(*flags, **home, **endpoint) == folder and not brought
            assert_whole(folder)
        # Both look in the same place.
        places = [
            {},
            {"XDG_CACHE_HOME": f"{place}/xdg"},
            {"HF_HOME": "~/home"},
            {"HF_HOME": f"{place}/home", "HUGGINGFACE_HUB_CACHE": f"{place}/older"},
            {"HF_HUB_CACHE": "$HOME/cache", "HUGGINGFACE_HUB_CACHE": f"{place}/older"},
            {"HF_HUB_CACHE": "~root/cache"},
        ]
        for variables in places:
            variables = {**variables, "HOME": f"{place}/user"}
            cache = Path(python("print(constants.HF_HUB_CACHE)", **variables))
            said = start([GIST, "fetch", NAME, "--offline"], **variables).stderr
            assert f"({cache}/models--tiny--base" in said, f"{variables}: {cache} by huggingface_hub, and gist says: {said}"
    print("one cache for gist and huggingface_hub: ok")


main()
