"""Rollouts with PyTorch and transformers: G sampled continuations of each prompt by `generate` with its KV cache.

Prints JSON with `rollout_tokens_per_second` and `decoding`, to be compared with the figures of the same names from
`gist bench`. On a GPU every clock is read after it has computed all that was asked of it.
"""

import argparse
import json
import statistics
import time

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

BATCHES = [8, 64]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="checkpoints/code-4m")
    parser.add_argument("--shape", help="a config.json: random weights of that shape in place of --model")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--windows", type=int, default=12, help="prompts of a step")
    parser.add_argument("--group", type=int, default=8, help="G: gists of a prompt")
    parser.add_argument("--prefix", type=int, default=256, help="P: tokens that are compressed")
    parser.add_argument("--local", type=int, default=96, help="L: tokens of the local window")
    parser.add_argument("--future", type=int, default=32, help="F: tokens that are predicted")
    parser.add_argument("--gist", type=int, default=24, help="K: tokens of a gist")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--condition", choices=["none", "local"], default="local", help="what the prompt holds")
    return parser


def load(args):
    """The base with two fresh adapters on every projection."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    if args.shape:
        with torch.device(args.device):
            base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.shape), dtype=dtype)
    else:
        base = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).to(args.device)
    lora = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora, adapter_name="compressor")
    model.add_adapter("generator", lora)
    return model.eval()


def random_ids(args, *shape: int) -> torch.Tensor:
    return torch.randint(1, 2000, shape, device=args.device)


def prompts(args, prefix: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
    """What the compressor reads: prefix, separator, local window, start. Token 0 stands for the control tokens."""
    zero = torch.zeros_like(prefix[:, :1])
    return torch.cat([prefix, zero, local, zero] if args.condition == "local" else [prefix, zero], 1)


@torch.no_grad()
def write(model, prompt: torch.Tensor, group: int, tokens: int, **more):
    """What `generate` makes of the active adapter: `group` continuations a prompt, always of so many tokens."""
    return model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        num_return_sequences=group,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        eos_token_id=None,
        pad_token_id=0,
        use_cache=True,
        **more,
    )


@torch.no_grad()
def generate(args, model, prompt: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gists `[N * G, K]` and their log-probabilities."""
    out = write(model, prompt, group, args.gist, return_dict_in_generate=True, output_logits=True)
    gists = out.sequences[:, prompt.shape[1] :]
    logits = torch.stack(out.logits, 1).float()  # [N * G, K, V]
    return gists, logits.log_softmax(-1).gather(-1, gists.unsqueeze(-1)).squeeze(-1)


def synchronize(args) -> None:
    """Waits until all that was asked of the device is computed."""
    if args.device != "cpu":
        torch.cuda.synchronize(args.device)


def timed(args, work) -> float:
    """Median seconds over the repeats, after one run to warm up."""
    seconds = []
    for repeat in range(args.repeats + 1):
        synchronize(args)
        start = time.perf_counter()
        work()
        synchronize(args)
        if repeat > 0:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def decoding(args, model, batch: int) -> dict:
    """Speed of so many gists at once, without their log-probabilities: with reading the prompts, and without, by the
    difference to writing one token each."""
    windows = max(1, batch // args.group)
    group = batch // windows
    prompt = prompts(args, random_ids(args, windows, args.prefix), random_ids(args, windows, args.local))
    first, whole = (timed(args, lambda k=k: write(model, prompt, group, k)) for k in [1, args.gist])
    rows = windows * group
    return {
        "batch": rows,
        "windows": windows,
        "tokens_per_second": rows * args.gist / whole,
        "decode_tokens_per_second": rows * (args.gist - 1) / (whole - first),
    }


def setting(args) -> dict:
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    sizes = {key: getattr(args, key) for key in ["windows", "group", "prefix", "local", "future", "gist"]}
    return {"model": args.shape or args.model, "device": args.device, "dtype": args.dtype, "threads": args.threads, "repeats": args.repeats} | sizes | versions


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--merged", action="store_true", help="merge the adapter into the weights first")
    args = parser.parse_args()
    model = load(args)
    prompt = prompts(args, random_ids(args, args.windows, args.prefix), random_ids(args, args.windows, args.local))
    model.set_adapter("compressor")
    if args.merged:
        model.merge_adapter()
    by_group = {g: timed(args, lambda g=g: generate(args, model, prompt, g)) for g in sorted({4, args.group, 16})}
    tokens = args.windows * args.group * args.gist
    figures = {
        "rollout_tokens_per_second": tokens / by_group[args.group],
        "decoding": [decoding(args, model, batch) for batch in BATCHES],
        "rollout_seconds_by_group": by_group,
        "merged": args.merged,
    }
    print(json.dumps(figures | setting(args), indent=2))


if __name__ == "__main__":
    main()
