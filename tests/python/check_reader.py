"""The span reader that ships, by peft and transformers: it points at the same answers.

    check_reader.py GIST BASE     from the root of the repository, with .minilm there; BASE: a model whose tokenizer counts budgets
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

MINILM, READER, ROWS = Path(".minilm"), Path("checkpoints/minilm/reader"), Path("data/tasks/squad.jsonl.zst")
QUESTIONS, LONGEST_ANSWER = 40, 30


def asked(gist, base):
    """Questions, contexts and the program's answers to whole contexts."""
    contexts = {}
    packed = subprocess.run(["zstd", "-dc", str(ROWS)], check=True, capture_output=True).stdout
    for row in map(json.loads, packed.decode().splitlines()):
        contexts.update({question["id"]: row["context"] for question in row["qas"]})
    with tempfile.TemporaryDirectory() as folder:
        own = [gist, "downstream", "--benchmark", "squad", "--from", str(ROWS), "--base", base, "--task-model", "span"]
        more = ["--compressors", "recent", "--budgets", "0.5", "--limit", str(QUESTIONS), "--resamples", "100", "--output", folder]
        subprocess.run([*own, *more], check=True, capture_output=True)
        rows = [json.loads(line) for line in Path(folder, "rows.jsonl").read_text().splitlines()]
    whole = [row for row in rows if row["compressor"] == "identity"]
    return [(row["query"], contexts[row["example_id"]], row["full_output"]) for row in whole]


def main():
    gist, base = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    encoder = AutoModel.from_pretrained(MINILM, add_pooling_layer=False)
    model = PeftModel.from_pretrained(encoder, READER).eval()
    head = load_file(READER / "adapter_model.safetensors")
    weight, bias = (head[f"gist.span.{name}"].float() for name in ("weight", "bias"))
    same = 0
    rows = asked(gist, base)
    for question, context, answer in rows:
        read = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
        places = read.pop("offset_mapping")[0]
        first = read["input_ids"][0].tolist().index(tokenizer.sep_token_id) + 1
        read["token_type_ids"] = torch.zeros_like(read["input_ids"])
        with torch.no_grad():
            logits = model(**read).last_hidden_state[0] @ weight.T + bias
        end = len(logits) - 1
        pairs = ((i, j) for i in range(first, end) for j in range(i, min(end, i + LONGEST_ANSWER)))
        i, j = max(pairs, key=lambda pair: (logits[pair[0], 0] + logits[pair[1], 1]).item())
        same += context[places[i][0] : places[j][1]] == answer
    print(f"span reader: {same} of {len(rows)} answers are those of peft")
    if len(rows) != QUESTIONS or same < QUESTIONS - 1:
        sys.exit("expected the same answers, but for a tie")


main()
