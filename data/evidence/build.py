"""Cuts contexts with a question and the sentence that answers it: python3 data/evidence/build.py SQUAD_TRAIN QED_TRAIN QED_DEV

The files are `.jsonl.zst`: paragraphs of SQuAD 1.1 train and of QED (Natural Questions with the sentence that answers). Writes
`train.jsonl.zst` from the training files; `squad.jsonl.zst` from the paragraphs that `data/tasks` ships, and `qed.jsonl.zst` from
QED's dev rows, are what an encoder is judged by. A context of SQuAD is up to SQUAD_PARAGRAPHS paragraphs of one article in a row,
one of QED a paragraph among paragraphs of other questions. No article of a training row is one of a judged row.
"""

import random
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from rows import read, write  # noqa: E402

SQUAD_PARAGRAPHS, SQUAD_ARTICLES, SQUAD_QUESTIONS = 8, 110, 3
QED_PARAGRAPHS, QED_TRAIN, QED_TEST = 4, 330, 300
END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


def sentence(text, at):
    """Characters of the sentence that holds a character."""
    cuts = [0] + [found.end() for found in END.finditer(text)] + [len(text)]
    return next((first, len(text[:end].rstrip())) for first, end in zip(cuts, cuts[1:]) if at < end)


def joined(paragraphs, gold, span):
    """Paragraphs as one text, and where characters `span` of the paragraph `gold` are in it."""
    before = sum(len(paragraph) + 2 for paragraph in paragraphs[:gold])
    return "\n\n".join(paragraphs) + "\n", [[before + span[0], before + span[1]]]


def squad_rows(rows, draw, articles, questions):
    by_title = {}
    for row in rows:
        by_title.setdefault(row["title"], []).append(row)
    titles = sorted(by_title)
    draw.shuffle(titles)
    for title in titles[:articles]:
        own = by_title[title]
        start = draw.randrange(max(1, len(own) - SQUAD_PARAGRAPHS + 1))
        own = own[start : start + SQUAD_PARAGRAPHS]
        asked = [(at, qa) for at, row in enumerate(own) for qa in row["qas"]]
        for at, qa in draw.sample(asked, min(questions or len(asked), len(asked))):
            text = own[at]["context"]
            place = qa["starts"][0] if "starts" in qa else text.find(qa["answers"][0])
            if place < 0:
                continue
            text, keep = joined([row["context"] for row in own], at, sentence(text, place))
            name = title.replace("_", " ")
            yield {"id": qa["id"], "document": title, "text": f"# {name}\n\n{text}", "query": qa["question"], "keep": moved(keep, len(name) + 4)}


def moved(keep, by):
    return [[first + by, end + by] for first, end in keep]


def qed_rows(rows, draw, count, titles):
    rows = [row for row in rows if row["type"] == "single_sentence" and len(row["evidence_sentences"]) == 1 and len(row["sentence_starts"]) > 1]
    rows = [row for row in rows if row["title"] not in titles]
    rows.sort(key=lambda row: row["id"])
    draw.shuffle(rows)
    rows = rows[:count]
    for number, row in enumerate(rows):
        others = draw.sample([other for other in rows if other["title"] != row["title"]], QED_PARAGRAPHS - 1)
        paragraphs = [row, *others]
        draw.shuffle(paragraphs)
        starts, gold = row["sentence_starts"] + [len(row["paragraph"])], row["evidence_sentences"][0]
        first, end = starts[gold], len(row["paragraph"][: starts[gold + 1]].rstrip())
        blocks = [f"# {paragraph['title']}\n{paragraph['paragraph'].strip()}" for paragraph in paragraphs]
        at = next(place for place, paragraph in enumerate(paragraphs) if paragraph is row)
        lead = len(f"# {row['title']}\n") - (len(row["paragraph"]) - len(row["paragraph"].lstrip()))
        text, keep = joined(blocks, at, (first + lead, end + lead))
        yield {"id": f"qed-{row['id']}", "document": row["title"], "text": text, "query": row["question"], "keep": keep}


draw = random.Random(0)
squad, qed_train, qed_dev = map(read, sys.argv[1:])
judged = [{**row} for row in read(HERE.parent / "tasks" / "squad.jsonl.zst")]
write(HERE / "squad.jsonl.zst", list(squad_rows(judged, draw, len(judged), None)))
write(HERE / "qed.jsonl.zst", list(qed_rows(qed_dev, draw, QED_TEST, set())))
judged = {row["title"] for row in judged} | {row["title"].replace(" ", "_") for row in qed_dev}
squad = [row for row in squad if row["title"] not in judged]
train = list(squad_rows(squad, draw, SQUAD_ARTICLES, SQUAD_QUESTIONS))
train += qed_rows(qed_train, draw, QED_TRAIN, {title.replace("_", " ") for title in judged})
write(HERE / "train.jsonl.zst", train)
