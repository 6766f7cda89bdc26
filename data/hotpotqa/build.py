"""Cuts the shipped sample out of HotpotQA (distractor setting): python3 data/hotpotqa/build.py ROWS.jsonl

A larger one, into another folder: python3 data/hotpotqa/build.py ROWS.jsonl FOLDER TEST VALID TRAIN, which are counts; where
there are fewer rows, the training split is what is left.

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

COUNTS = [int(count) for count in sys.argv[3:6]] or [120, 30, 200]
SPLITS = list(zip(["test", "valid", "train"], COUNTS, strict=True))

rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
rows.sort(key=lambda row: row["id"])
random.Random(0).shuffle(rows)
folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).parent
taken, seen = iter(rows), set()
for split, count in SPLITS:
    kept, own = [], set()
    while len(kept) < count:
        row = next(taken, None)
        if row is None:
            break
        gold = {title for title, _ in row["supporting_facts"]}
        if not gold & seen:
            own |= gold
            kept.append({key: row[key] for key in ["id", "question", "context", "supporting_facts"]})
    seen |= own
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    path = folder / f"{split}.jsonl.zst"
    subprocess.run(["zstd", "-19", "-q", "-f", "-o", path], input=text.encode(), check=True)
    print(split, len(kept), path.stat().st_size)
