"""Loads a merged export of `gist` with transformers, the same role's adapter with peft, and compares logits and generation.

    gist export RUN --role generator --output ADAPTER
    gist export RUN --role generator --merge --output MERGED
    python tests/python/check_merged.py ADAPTER MERGED [..]        # where the adapter's base can be found

`AutoPeftModelForCausalLM` needs nothing but the adapter's folder: its tokenizer has the control tokens, for which the base
gets rows where it has none to spare. Rows of ordinary tokens with control tokens among them; logits of the ordinary
vocabulary and, of a compressor, of end-of-gist; then a greedy continuation, by both, without the tokens that are suppressed.

Exits with 1 when the largest absolute difference passes 1e-3, when the adapter changes nothing, or when the two go on
differently.
"""

import sys
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

CONTROLS = ["<|gist_end|>", "<|gist_start|>", "<|gist_separator|>"]


@torch.no_grad()
def check(adapter_folder: str, merged_folder: str) -> bool:
    adapted = AutoPeftModelForCausalLM.from_pretrained(adapter_folder, dtype=torch.float32).eval()
    merged = AutoModelForCausalLM.from_pretrained(merged_folder, dtype=torch.float32).eval()
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (adapter_folder, merged_folder)]
    end, start, separator = (ids := tokenizers[1].convert_tokens_to_ids(CONTROLS))
    assert ids == tokenizers[0].convert_tokens_to_ids(CONTROLS) and ids == list(range(end, end + 3)), ids
    assert tokenizers[0]("<|gist_separator|>")["input_ids"] == [separator]
    how = GenerationConfig.from_pretrained(merged_folder)
    assert how.suppress_tokens == GenerationConfig.from_pretrained(adapter_folder).suppress_tokens
    writes = end not in how.suppress_tokens

    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(end, (2, 40), generator=generator)
    rows[:, 20] = separator
    if writes:
        rows[:, -1] = start
    compared = end + 1 if writes else end
    logits, theirs = merged(rows).logits[..., :compared], adapted(rows).logits[..., :compared]
    difference = (logits - theirs).abs().max().item()
    with adapted.disable_adapter():
        effect = (adapted(rows).logits[..., :end] - theirs[..., :end]).abs().max().item()

    options = dict(max_new_tokens=16, do_sample=False, suppress_tokens=how.suppress_tokens, eos_token_id=how.eos_token_id)
    mask = torch.ones_like(rows)
    by_merged, by_peft = (model.generate(rows, attention_mask=mask, pad_token_id=end, **options) for model in (merged, adapted))
    # Both could end at once: then what is written before the end is nothing, and the same.
    written = by_merged[:, rows.shape[1] :]
    same = torch.equal(by_merged, by_peft) and not set(how.suppress_tokens) & set(written.flatten().tolist()) - {end}
    print(
        f"{Path(merged_folder).name}: max |merged - peft| = {difference:.2e}; the adapter moves logits by up to {effect:.2e}; "
        f"{written.shape[1]} tokens generated, {'the same' if same else 'NOT the same'} by both: "
        f"{tokenizers[1].decode(written[0])!r}"
    )
    return difference < 1e-3 and effect > 1e-3 and same and written.shape[1] > 0


if __name__ == "__main__":
    if len(sys.argv) < 3 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__)
    pairs = zip(sys.argv[1::2], sys.argv[2::2])
    sys.exit(0 if all([check(*pair) for pair in pairs]) else 1)
