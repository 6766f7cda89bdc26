"""Builds {train,valid,test,final}.jsonl.zst from three files of encyclopedia articles: rows {"title": …, "text": …},
`.jsonl.zst`.

    data/wiki/build.py PART VALID FINAL

Training articles are the first of PART that are long enough, validation and test articles those of VALID, in their order,
articles of the final split those of FINAL.
Each is cut at the end of a paragraph. No article is in two files.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rows import read, write  # noqa: E402

# Articles and characters of each, about 5 characters a token.
SIZES = {"train": (120, 7000), "valid": (27, 6000), "test": (60, 6000), "final": (60, 6000)}


def cut(text: str, most: int) -> str:
    kept = ""
    for paragraph in text.splitlines():
        if len(kept) + len(paragraph) + 1 > most:
            break
        kept += paragraph + "\n"
    return kept.rstrip("\n")


def main() -> None:
    part, valid, final = sys.argv[1:]
    sources = {"train": iter(read(part)), "valid": iter(read(valid)), "final": iter(read(final))}
    sources["test"] = sources["valid"]
    for split, (count, most) in SIZES.items():
        rows = []
        for row in sources[split]:
            text = cut(row["text"], most)
            if len(text) < 0.6 * most:
                continue
            rows.append({"id": row["title"], "source": "wikipedia", "text": text})
            if len(rows) == count:
                break
        write(HERE / f"{split}.jsonl.zst", rows)


main()
