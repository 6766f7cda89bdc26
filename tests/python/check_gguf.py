"""Compares what `gist` makes of the real SmolLM2's GGUF file with what transformers makes of it.

    ./setup && cargo test --release          # the model, and what the tests leave in target/tmp/smollm2
    gist export --base .smollm2 --output FOLDER
    python tests/python/check_gguf.py .smollm2 target/tmp/smollm2 FOLDER

Three gates, each of which ends the check with 1:
- logits in float32 and bfloat16 against transformers' own GGUF loader: at most 1e-3 apart in float32; in bfloat16 no farther
  (mean square) than 1.5 times what bfloat16 itself moves them;
- the exported folder, which transformers loads, has the same weights, bit for bit, as that loader dequantises;
- token ids of 10 MB of mixed text, by transformers' tokenizer from the GGUF file (with the rule for digits that it lacks) and by
  the one of the exported folder, and a chat by the template of each.
"""

import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


@torch.no_grad()
def logits(folder: Path, left: Path, exported: Path) -> bool:
    [path] = folder.glob("*.gguf")
    record, good, exact = load_file(left / "record.safetensors"), True, None
    for name, kind in [("float32", torch.float32), ("bfloat16", torch.bfloat16)]:
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=path.name, dtype=kind).eval()
        theirs = model(record["ids"]).logits.float()
        if kind == torch.float32:
            exact = theirs
            difference = (record[name] - theirs).abs().max().item()
            print(f"SmolLM2 in float32: max |gist - transformers| = {difference:.2e}")
            good &= difference < 1e-3
            ours = AutoModelForCausalLM.from_pretrained(exported, dtype=kind).state_dict()
            same = all(torch.equal(weights, ours[key]) for key, weights in model.state_dict().items())
            print(f"exported folder: {len(ours)} weights, {'bit for bit those' if same else 'NOT those'} of the GGUF loader")
            good &= same
        else:
            moved = (theirs - exact).square().mean().item()
            share = (record[name] - theirs).square().mean().item() / moved
            print(f"SmolLM2 in bfloat16: squared distance from transformers {share:.2f} of what bfloat16 moves its logits")
            good &= share < 1.5
        del model
    return good


def tokens(folder: Path, left: Path, exported: Path) -> bool:
    [path] = folder.glob("*.gguf")
    texts, expected = (json.loads((left / name).read_text()) for name in ("texts.json", "ids.json"))
    good, chat = True, [{"role": "user", "content": "Hello."}]
    size = sum(len(text.encode()) for text in texts)
    made = {"the GGUF file": AutoTokenizer.from_pretrained(folder, gguf_file=path.name)}
    made["the exported folder"] = AutoTokenizer.from_pretrained(exported)
    rendered = set()
    for name, tokenizer in made.items():
        backend = tokenizer.backend_tokenizer
        # A document that holds the text of a special token is text.
        backend.encode_special_tokens = True
        if name == "the GGUF file":
            # SmolLM2's tokenizer.json takes digits apart first; this loader does not know the rules named "smollm".
            digits = pre_tokenizers.Digits(individual_digits=True)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
        found = [encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]
        differing = [at for at, (ours, theirs) in enumerate(zip(expected, found, strict=True)) if ours != theirs]
        count = sum(map(len, found))
        print(f"tokens of {size / 1e6:.1f} MB by {name}: {count}, {len(differing)} of {len(texts)} documents differ")
        for at in differing[:3]:
            place = next(i for i, pair in enumerate(zip(expected[at], found[at])) if pair[0] != pair[1])
            print(f"  {backend.decode(expected[at][max(0, place - 3) : place + 6])!r}", expected[at][place:][:6], found[at][place:][:6])
        good &= not differing
        rendered.add(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        rendered.add((tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token))
    ends = GenerationConfig.from_pretrained(exported).eos_token_id
    print(f"chat: {rendered}; a text ends with {ends}")
    return good and len(rendered) == 2 and ends == 2


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    begun = time.monotonic()
    folders = [Path(argument) for argument in sys.argv[1:]]
    passed = [check(*folders) for check in (tokens, logits)]
    print(f"GGUF: {time.monotonic() - begun:.0f} s")
    sys.exit(0 if all(passed) else 1)
