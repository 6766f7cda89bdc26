"""Builds {train,valid,test}.jsonl.zst from installed Python distributions; sources.json pins version, sha256 and split.

    python3 build.py [--site DIR ...] [--stdlib DIR] [--pin]

--site: folders in the layout of site-packages (searched before this Python's own); --pin writes versions and hashes.
The same sources give the same files, byte for byte, with the same zstd version.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import re
import subprocess
import sysconfig
from collections import Counter, defaultdict

HERE = pathlib.Path(__file__).resolve().parent
SMALLEST, LARGEST = 2_000, 60_000  # bytes of one document
SKIP = re.compile(
    r"(^|/)(_?vendor(ed)?|_extern|third_party|migrations?|site-packages|__pycache__|locale|localedata|encodings"
    r"|pydoc_data|test_data|testdata|chardet|unicode\w*|table_\w+|\w*_tables?|_mapping|_builtins|\w*parsetab)(/|\.py$)"
)
COPYLEFT = re.compile(r"GNU (Lesser |Affero |Library )?General Public Licen[cs]e|Mozilla Public Licen[cs]e")
# what follows in torch's own licence files concerns the C++ libraries of its binaries
BUNDLED = re.compile(r"\n+(The PyTorch repository and source distributions bundle|=+\nSoftware under third_party)[\s\S]*")
LICENCE_FILE = re.compile(r"(^|/)(LICEN[CS]E|COPYING|NOTICE|COPYRIGHT)[^/]*$", re.I)


def acceptable(text: str) -> bool:
    """Source written by hand: neither tiny, huge, generated, nor a table."""
    size, lines = len(text.encode()), text.split("\n")
    return (
        SMALLEST <= size <= LARGEST
        and max(map(len, lines)) <= 400
        and size / len(lines) <= 80
        and sum(c.isdigit() for c in text) <= 0.15 * len(text)
        and not any("generated" in line.lower() for line in lines[:5])
        and not COPYLEFT.search(text)
    )


def read_source(source: dict, sites: list[str], stdlib: pathlib.Path):
    """(version, homepage, {path: text}, [licence texts]) of one source."""
    if source.get("kind") == "stdlib":
        paths = [p.relative_to(stdlib) for p in stdlib.rglob("*.py")]
        paths = [p for p in paths if p.parts[0] not in ("site-packages", "test", "idlelib") and "tests" not in p.parts]
        root, licences = stdlib, [(stdlib / "LICENSE.txt").read_text()]
        version, homepage = platform.python_version(), "https://www.python.org"
    else:
        found = next(importlib.metadata.distributions(name=source["name"], path=sites), None)
        if found is None:
            raise SystemExit(f"{source['name']}: not installed; expected {source.get('version', 'any version')}")
        files = found.files or []
        paths = [p for p in files if p.suffix == ".py" and ".." not in p.parts]
        licence_files = [p for p in files if LICENCE_FILE.search(str(p)) and p.suffix != ".py"]
        licences = [found.locate_file(p).read_text(errors="replace") for p in licence_files]
        root, version, meta = pathlib.Path(found.locate_file("")), found.version, found.metadata
        urls = dict(u.split(", ", 1) for u in meta.get_all("Project-URL") or [])
        homepage = meta.get("Home-page") or next(iter(urls.values()), "")
    texts = {}
    for path in sorted(map(str, paths)):
        if SKIP.search(path):
            continue
        try:
            text = (root / path).read_bytes().decode("utf-8").replace("\r\n", "\n").removeprefix("\ufeff")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        if acceptable(text):
            texts[path] = text
    return version, homepage, texts, licences


def digest(texts: dict[str, str]) -> str:
    h = hashlib.sha256()
    for path, text in sorted(texts.items()):
        h.update(f"{path}\0{hashlib.sha256(text.encode()).hexdigest()}\n".encode())
    return h.hexdigest()


def capped(texts: dict[str, str], cap: int) -> dict[str, str]:
    """A pseudo-random choice of whole files, at most `cap` bytes."""
    kept, total = {}, 0
    for path in sorted(texts, key=lambda p: hashlib.sha256(p.encode()).digest()):
        size = len(texts[path].encode())
        if total + size <= cap:
            kept[path] = texts[path]
            total += size
    return kept


def shingles(text: str) -> frozenset[int]:
    words = re.findall(r"\w+", text)
    return frozenset(
        int.from_bytes(hashlib.blake2b(" ".join(words[i : i + 5]).encode(), digest_size=6).digest(), "big")
        for i in range(max(1, len(words) - 4))
    )


def resembling(docs: list, against: list, threshold: float, keep_first: bool = False) -> set[int]:
    """Indices of `docs` whose shingle Jaccard with one of `against` passes `threshold` (exact, inverted index).

    With `keep_first` both lists are the same and only the later of two is named; shingles of over 40 documents (licence
    headers) are then left out of the search for candidates, not out of the comparison.
    """
    index, dropped = defaultdict(list), set()
    for j, other in enumerate(against):
        for s in other:
            index[s].append(j)
    for i, doc in enumerate(docs):
        shared = Counter()
        for s in doc:
            holders = index.get(s, ())
            if not keep_first or len(holders) <= 40:
                shared.update(holders)
        for j, n in shared.items():
            if keep_first and (j >= i or j in dropped):
                continue
            if n > 0.1 * min(len(doc), len(against[j])):
                common = len(doc & against[j])
                if common > threshold * (len(doc) + len(against[j]) - common):
                    dropped.add(i)
                    break
    return dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", action="append", default=[])
    parser.add_argument("--stdlib", type=pathlib.Path, default=pathlib.Path(sysconfig.get_paths()["stdlib"]))
    parser.add_argument("--pin", action="store_true")
    args = parser.parse_args()
    sites = [*args.site, sysconfig.get_paths()["purelib"]]
    sources = json.loads((HERE / "sources.json").read_text())
    splits = {"train": [], "valid": [], "test": []}
    licence_texts, wrong = {}, []
    for source in sources:
        version, homepage, texts, licences = read_source(source, sites, args.stdlib)
        if args.pin:
            source.update(version=version, homepage=homepage, sha256=digest(texts))
        elif (version, digest(texts)) != (source["version"], source["sha256"]):
            expected, got = f"{source['version']} {source['sha256'][:12]}", f"{version} {digest(texts)[:12]}"
            wrong.append(f"{source['name']}: expected {expected}, got {got}")
        if not licences:
            wrong.append(f"{source['name']}: no licence text")
        for text in licences:
            text = BUNDLED.sub("", "\n" + text).strip()
            if text:
                users = licence_texts.setdefault(" ".join(text.split()), (text, []))[1]
                users.append(f"{source['name']} {version}")
        for path, text in capped(texts, source["cap_kb"] * 1000).items():
            row = {"id": f"{source['name']}/{path}", "source": f"{source['name']}=={version}", "licence": source["licence"]}
            splits[source["split"]].append({**row, "text": text})
    if wrong:
        raise SystemExit("\n".join(wrong))

    for rows in splits.values():
        rows.sort(key=lambda r: r["id"])
    sets = {name: [shingles(r["text"]) for r in rows] for name, rows in splits.items()}
    counts = {}

    def drop(name: str, which: set[int], why: str) -> None:
        counts[f"{name}: {why}"] = len(which)
        for which_list in (splits[name], sets[name]):
            which_list[:] = [x for i, x in enumerate(which_list) if i not in which]

    for name in splits:
        drop(name, resembling(sets[name], sets[name], 0.8, keep_first=True), "near-duplicate (> 0.8) of one in the same split")
    drop("valid", resembling(sets["valid"], sets["test"], 0.5), "resembles (> 0.5) test")
    drop("train", resembling(sets["train"], sets["test"] + sets["valid"], 0.5), "resembles (> 0.5) valid or test")

    stats = {"dropped": counts, "splits": {}}
    per_source = Counter()
    for name, rows in splits.items():
        raw = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
        path = HERE / f"{name}.jsonl.zst"
        subprocess.run(["zstd", "-q", "-f", "--ultra", "-22", "--zstd=wlog=23", "-T1", "-o", path, "-"], input=raw, check=True)
        per_source.update({r["source"]: 0 for r in rows})
        for r in rows:
            per_source[r["source"]] += len(r["text"].encode())
        stats["splits"][name] = {
            "documents": len(rows),
            "sources": len({r["source"] for r in rows}),
            "text_bytes": sum(len(r["text"].encode()) for r in rows),
            "file_bytes": path.stat().st_size,
            "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    for source in sources:
        source["text_bytes"] = per_source[f"{source['name']}=={source['version']}"]
    if args.pin:
        (HERE / "sources.json").write_text(json.dumps(sources, indent=1) + "\n")
    (HERE / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    notice = ["# Sources of the shipped text", "", "Each file is unchanged but for its line ends. "
              "The licence texts are in `licences.md.zst`: `zstd -dc licences.md.zst`.", ""]
    notice += ["| name | version | licence | split | text bytes | home |", "|---|---|---|---|---|---|"]
    for s in sources:
        notice.append(f"| {s['name']} | {s['version']} | {s['licence']} | {s['split']} | {s['text_bytes']} | {s['homepage']} |")
    (HERE / "NOTICE.md").write_text("\n".join(notice) + "\n")
    texts = ["# Licence texts of the shipped text", ""]
    for text, users in licence_texts.values():
        texts += [f"## {', '.join(dict.fromkeys(users))}", "", "```", text.replace("```", "'''"), "```", ""]
    packed = ["zstd", "-q", "-f", "--ultra", "-22", "-o", HERE / "licences.md.zst", "-"]
    subprocess.run(packed, input="\n".join(texts).encode(), check=True)
    print(json.dumps(stats, indent=1))


if __name__ == "__main__":
    main()
