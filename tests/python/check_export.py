"""Loads adapters that `gist` saved with peft, and compares logits with those that `gist` recorded beside them.

    cargo test --release        # writes target/tmp/peft-export and target/tmp/peft-controls
    python tests/python/check_export.py target/tmp/peft-export target/tmp/peft-controls/*

An adapter folder must hold `logits.safetensors` with `ids [N, T]`, `logits [N, T, V]` and, where the adapter has control
tokens (`trainable_token_indices`), `end [N, T, 1]`, the logit of end-of-gist. The base is where the adapter says, from the
root of the repository; one without enough rows for the control tokens gets them.

Run on peft 0.21.2, transformers 5.23.0, torch 2.11.0: see `check`, which asserts a difference below 1e-4 for each.

Exits with 1 when the largest absolute difference passes that, or when the adapter changes nothing.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]


@torch.no_grad()
def check(folder: Path) -> bool:
    record = load_file(folder / "logits.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(ROOT / config["base_model_name_or_path"], dtype=torch.float32).eval()
    control = (config.get("trainable_token_indices") or {}).get("embed_tokens", [])
    if control and max(control) >= base.config.vocab_size:
        base.resize_token_embeddings(max(control) + 1, mean_resizing=False)
    assert not control or set(control) - {control[0]} <= set(record["ids"].flatten().tolist()), "no control token is read"
    vocabulary = record["logits"].shape[-1]
    plain = base(input_ids=record["ids"]).logits[..., :vocabulary]
    logits = PeftModel.from_pretrained(base, folder).eval()(input_ids=record["ids"]).logits
    theirs = logits[..., :vocabulary]
    difference = (record["logits"] - theirs).abs().max().item()
    if control:
        difference = max(difference, (record["end"][..., 0] - logits[..., control[0]]).abs().max().item())
    effect = (theirs - plain).abs().max().item()
    print(f"{folder.name}: max |gist - peft| = {difference:.2e}; the adapter moves logits by up to {effect:.2e}")
    return difference < 1e-4 and effect > 1e-3


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(0 if all([check(Path(folder)) for folder in sys.argv[1:]]) else 1)
