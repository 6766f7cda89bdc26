"""Writes an encoder that `gist export` left, with its heads, as one ONNX file, and compares what onnxruntime makes of it.

    pip install torch==2.11.0 transformers==5.23.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
    gist export RUN --output EXPORTED
    python scripts/export_onnx.py EXPORTED encoder.onnx [RECORD]

Inputs: `input_ids` and `attention_mask` [N, T], rows padded on the right; `token_type_ids` where the encoder tells question
and context apart. Outputs, float32: `worth` [N, T], log p · (0.5 + 0.5 · s) of each token; `places` [N, T, F], what each
feature of a place is weighed by; `end` [N], the worth of the end. A unit is worth the mean of its tokens' `worth` plus the
sum over features of feature times mean of its tokens' `places`. The features are not in the file: `gist` takes them from the
base that reads (src/compressor/attended.rs) and from where the unit stands.

The file is compared with PyTorch on random rows, padded and of other sizes than those that it was traced with; and, given a
RECORD, with what `gist` itself made of the rows in it (`cargo test --release --test tests exported` leaves one beside each
encoder in target/tmp/encoders). Exits with 1 when a difference passes 1e-4.
"""

import sys
from pathlib import Path

import onnxruntime
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel

OUTPUTS = ["worth", "places", "end"]


class Extractive(nn.Module):
    def __init__(self, folder: Path):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        weights = load_file(folder / "model.safetensors")
        heads = {n.removeprefix("gist.extractive."): w for n, w in weights.items() if n.startswith("gist.")}
        self.pairs = getattr(self.encoder.config, "type_vocab_size", 0) > 1
        for name in ["token_head", "place_head"]:
            self.add_module(name, self.filled(nn.Linear, heads, name))
        self.wide = self.filled(nn.Conv1d, heads, "span_head.0", padding=2)
        self.narrow = self.filled(nn.Conv1d, heads, "span_head.2", padding=1)
        self.end = nn.Parameter(heads["gist.end_head.weight"])

    @staticmethod
    def filled(kind: type, heads: dict[str, torch.Tensor], name: str, **more: int) -> nn.Module:
        weight = heads[f"{name}.weight"]
        module = kind(weight.shape[1], weight.shape[0], *weight.shape[2:], **more)
        module.load_state_dict({"weight": weight, "bias": heads[f"{name}.bias"]})
        return module

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        more = {"token_type_ids": token_type_ids} if self.pairs else {}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        # The convolutions see nothing at padding, as they see nothing beyond a row.
        real = attention_mask.to(hidden.dtype).unsqueeze(1)
        spans = nn.functional.gelu(self.wide(hidden.transpose(1, 2) * real)) * real
        spans = self.narrow(spans).squeeze(1).sigmoid()
        worth = nn.functional.logsigmoid(self.token_head(hidden).squeeze(-1)) + (0.5 + 0.5 * spans).log()
        return worth, self.place_head(hidden), (hidden[:, 0] @ self.end.T).squeeze(-1)


def rows(model: Extractive, lengths: list[int], seed: int) -> dict[str, torch.Tensor]:
    """Random rows of these lengths, padded on the right."""
    generator, config = torch.Generator().manual_seed(seed), model.encoder.config
    padding = config.pad_token_id or 0
    ids = torch.randint(padding + 1, config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    found = {"input_ids": torch.where(mask > 0, ids, padding), "attention_mask": mask}
    if model.pairs:
        found["token_type_ids"] = (torch.arange(max(lengths)) >= max(lengths) // 3).long() * mask
    return found


def furthest(ours, theirs, mask: torch.Tensor) -> float:
    """The largest difference of each output, padding left out."""
    differences = []
    for a, b in zip(ours, theirs, strict=True):
        difference = (torch.as_tensor(a) - torch.as_tensor(b)).abs()
        differences.append((difference if difference.dim() == 1 else difference[mask.bool()]).max().item())
    return max(differences)


@torch.no_grad()
def main(folder: str, output: str, record: str | None = None) -> int:
    model = Extractive(Path(folder)).eval()
    sample = rows(model, [24, 17], 0)
    sizes = {0: torch.export.Dim("rows", min=1), 1: torch.export.Dim("tokens", min=2)}
    torch.onnx.export(
        model,
        kwargs=sample,
        f=output,
        output_names=OUTPUTS,
        dynamic_shapes={name: dict(sizes) for name in sample},
        dynamo=True,
        external_data=False,
    )
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])

    def answer(inputs: dict[str, torch.Tensor]):
        return session.run(OUTPUTS, {name: tensor.numpy() for name, tensor in inputs.items()})

    worst = 0.0
    longest = min(model.encoder.config.max_position_embeddings - 4, 300)
    for seed, lengths in enumerate([[24, 17], [5], [longest, 2, longest // 2], [3] * 7]):
        inputs = rows(model, lengths, seed)
        worst = max(worst, furthest(answer(inputs), model(**inputs), inputs["attention_mask"]))
    print(f"max |onnxruntime - torch| = {worst:.2e} on random rows; {Path(output).stat().st_size} bytes")
    if record:
        kept = load_file(record)
        inputs = {name: kept[name] for name in sample}
        difference = furthest(answer(inputs), [kept[name] for name in OUTPUTS], kept["attention_mask"])
        print(f"max |onnxruntime - gist| = {difference:.2e}")
        worst = max(worst, difference)
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
