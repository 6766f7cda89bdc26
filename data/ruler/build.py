"""Builds words.txt.zst from the word lists of wonderwords 3.0.1 (MIT): python3 data/ruler/build.py ASSETS

ASSETS is the folder `wonderwords/assets` of its wheel. A line is a kind and a word: noun, adjective or verb.
"""

import pathlib
import subprocess
import sys

folder = pathlib.Path(sys.argv[1])
lines = []
for kind in ["noun", "adjective", "verb"]:
    words = [word.strip() for word in (folder / f"{kind}list.txt").read_text(encoding="utf-8").splitlines()]
    lines += [f"{kind}\t{word}\n" for word in words if word]
path = pathlib.Path(__file__).parent / "words.txt.zst"
subprocess.run(["zstd", "-19", "-q", "-f", "-o", path], input="".join(lines).encode(), check=True)
print(len(lines), path.stat().st_size)
