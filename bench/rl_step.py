"""One co-training step with PyTorch, transformers and peft, doing the work of `gist bench`:

    teacher            the base, adapters off, over whole windows
    rollouts           G gists of K tokens for each prompt, by generate
    reading            the generator's KL to the teacher with each gist
    policy update      policy gradient through the compressor's adapter over prompt and gist, AdamW
    generator update   forward KL through the generator's adapter over some of the gists, AdamW

Prints JSON with seconds of the parts and of the whole step. Logits are asked for only where they are used
(`logits_to_keep`), and batches are those of `gist bench`.
"""

import json

import torch
from rollouts import arguments, generate, load, prompts, random_ids, setting, timed

READER_ROWS = 48


def future_logits(args, model, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities `[N, F, V]` of the last F tokens of `ids`."""
    logits = model(input_ids=ids[:, :-1], logits_to_keep=args.future, use_cache=False).logits
    return logits.float().log_softmax(-1)


def kl(teacher: torch.Tensor, reader: torch.Tensor) -> torch.Tensor:
    """Mean over future tokens of KL(teacher ‖ reader), `[N]`."""
    return (teacher.exp() * (teacher - reader)).sum(-1).mean(-1)


class Step:
    """Inputs, adapters and optimisers of a step; each part is a method that can be timed alone."""

    def __init__(self, args):
        self.args, self.model = args, load(args)
        n = args.windows
        self.prefix, self.local = random_ids(args, n, args.prefix), random_ids(args, n, args.local)
        self.future = random_ids(args, n, args.future)
        self.prompt = prompts(args, self.prefix, self.local)
        self.optim = {}
        for role in ["compressor", "generator"]:
            weights = [p for name, p in self.model.named_parameters() if f".{role}." in name]
            assert weights
            self.optim[role] = torch.optim.AdamW(weights, lr=1e-4)
        self.teacher_logp = self.teacher()
        self.gists, self.behaviour = self.rollouts()

    @torch.no_grad()
    def teacher(self) -> torch.Tensor:
        with self.model.disable_adapter():
            return future_logits(self.args, self.model, torch.cat([self.prefix, self.local, self.future], 1))

    def rollouts(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.model.set_adapter("compressor")
        return generate(self.args, self.model, self.prompt, self.args.group)

    def reader_rows(self, each: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gist, separator, local window and future for every `each`-th gist; and the row of its window."""
        rows = torch.arange(0, len(self.gists), each, device=self.args.device)
        window = rows // self.args.group
        separator = torch.zeros_like(self.gists[rows, :1])
        return torch.cat([self.gists[rows], separator, self.local[window], self.future[window]], 1), window

    @torch.no_grad()
    def reading(self) -> torch.Tensor:
        self.model.set_adapter("generator")
        ids, window = self.reader_rows(1)
        batches = zip(ids.split(READER_ROWS), window.split(READER_ROWS))
        return torch.cat([kl(self.teacher_logp[w], future_logits(self.args, self.model, b)) for b, w in batches])

    def update(self, role: str) -> None:
        weights = self.optim[role].param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        self.optim[role].step()
        self.optim[role].zero_grad()

    def policy_update(self) -> None:
        args = self.args
        self.model.set_adapter("compressor")
        ids = torch.cat([self.prompt.repeat_interleave(args.group, 0), self.gists], 1)
        advantage = torch.linspace(-1, 1, args.group, device=args.device).repeat(args.windows)
        rows = args.micro * args.group
        for b, a, old in zip(ids.split(rows), advantage.split(rows), self.behaviour.split(rows)):
            gist = b[:, -args.gist :]
            logits = self.model(input_ids=b[:, :-1], logits_to_keep=args.gist, use_cache=False).logits
            logp = logits.float().log_softmax(-1).gather(-1, gist.unsqueeze(-1)).squeeze(-1)
            importance = (logp - old).exp().detach()
            (-(importance * a.unsqueeze(1) * logp).sum() / (len(ids) * args.gist)).backward()
        self.update("compressor")

    def generator_update(self) -> None:
        args = self.args
        self.model.set_adapter("generator")
        ids, window = self.reader_rows(max(1, args.group // args.gists_per_window))
        for b, w in zip(ids.split(READER_ROWS), window.split(READER_ROWS)):
            (kl(self.teacher_logp[w], future_logits(args, self.model, b)).sum() / len(ids)).backward()
        self.update("generator")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--micro", type=int, default=4, help="windows of one policy pass")
    parser.add_argument("--gists-per-window", type=int, default=3, help="gists that the generator learns from")
    args = parser.parse_args()
    step = Step(args)
    work = {
        "teacher": step.teacher,
        "rollouts": step.rollouts,
        "reading": step.reading,
        "policy update": step.policy_update,
        "generator update": step.generator_update,
    }
    parts = {name: timed(args, part) for name, part in work.items()}
    print(json.dumps({"step_seconds": sum(parts.values()), "parts": parts} | setting(args), indent=2))


if __name__ == "__main__":
    main()
