"""Cuts the shipped sample out of HotpotQA (distractor setting): python3 data/hotpotqa/build.py ROWS.jsonl

ROWS.jsonl holds rows of HotpotQA with `id`, `question`, `context` ([[title, [sentence, ...]], ...]) and
`supporting_facts` ([[title, sentence], ...]). Rows are shuffled with seed 0; the first become the test split, the next
validation, the next training, and a row is passed over if a paragraph that supports its answer also supports one of an
earlier split.
"""
import json
import pathlib
import random
import subprocess
import sys

SPLITS = [("test", 120), ("valid", 30), ("train", 200)]

rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
rows.sort(key=lambda row: row["id"])
random.Random(0).shuffle(rows)
folder = pathlib.Path(__file__).parent
taken, seen = iter(rows), set()
for split, count in SPLITS:
    kept, own = [], set()
    while len(kept) < count:
        row = next(taken)
        gold = {title for title, _ in row["supporting_facts"]}
        if not gold & seen:
            own |= gold
            kept.append({key: row[key] for key in ["id", "question", "context", "supporting_facts"]})
    seen |= own
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    path = folder / f"{split}.jsonl.zst"
    subprocess.run(["zstd", "-19", "-q", "-f", "-o", path], input=text.encode(), check=True)
    print(split, len(kept), path.stat().st_size)
