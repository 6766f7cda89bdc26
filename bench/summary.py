"""What `scripts/gpu-check` found, as one file and one table: ratios to PyTorch, the share of the matrix-product rate, and on
a GPU whether the goals are reached. Standard library only.

    python bench/summary.py WORK OUTPUT DEVICE

WORK holds `parts` (name, outcome, seconds, a line each) and what ran of `check.json`, `bench.json`, `rollouts.json`,
`step.json`, `resumed`. Written to OUTPUT: `results.json` (all of them) and `summary.md`. Fails if a part did.
"""

import json
import sys
from pathlib import Path

DECODING, TRAINING, STEP = 3.0, 0.4, 2.0
RESUMED = {
    "same": "The run that was killed and resumed has the metrics of the one that went through, to the last byte.",
    "other": "The run that was killed and resumed has other metrics than the one that went through.",
}


def text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def figures(path: Path) -> dict | None:
    """A part that failed may have left nothing, or half of a file."""
    try:
        return json.loads(text(path))
    except json.JSONDecodeError:
        return None


def row(name: str, value: float, here=None, peer=None, goal=None) -> dict:
    return {"name": name, "here": here, "peer": peer, "value": value, "goal": goal}


def compare(bench: dict, rollouts: dict | None, step: dict | None) -> list[dict]:
    """What is measured here, with PyTorch's figure, their ratio or a share, and its goal."""
    rows = []
    if rollouts:
        theirs = {decoding["batch"]: decoding["decode_tokens_per_second"] for decoding in rollouts["decoding"]}
        for ours in bench["decoding"]:
            here, peer = ours["decode_tokens_per_second"], theirs[ours["batch"]]
            rows.append(row(f"decoding {ours['batch']} gists, tokens/s", here / peer, here, peer, DECODING))
        here, peer = (side["rollout_tokens_per_second"] for side in [bench, rollouts])
        rows.append(row("rollouts of a step, tokens/s", here / peer, here, peer))
    if step:
        for part in bench["parts"]:
            here, peer = part["seconds"], step["parts"][part["name"]]
            rows.append(row(f"{part['name']}, s", peer / here, here, peer))
        here, peer = bench["step_seconds"], step["step_seconds"]
        rows.append(row("whole step, s", peer / here, here, peer, STEP))
    rate = f"updates, share of the {bench['dtype']} matrix product's {bench['gemm_gflops'] / 1e3:.3g} TFLOP/s"
    return rows + [row(rate, bench["training_gemm_share"], goal=TRAINING)]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: list[str], rows: list[list]) -> list[str]:
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    return ["", line(head), "|" + "---|" * len(head), *map(line, rows)]


def main(work: Path, output: Path, device: str) -> bool:
    parts = [line.split("\t") for line in text(work / "parts").splitlines()]
    found = {name: figures(work / f"{name}.json") for name in ["check", "bench", "rollouts", "step"]}
    bench, resumed = found["bench"], text(work / "resumed")
    rows = compare(bench, found["rollouts"], found["step"]) if bench else []
    for entry in rows:
        entry["reached"] = entry["value"] >= entry["goal"] if entry["goal"] and device != "cpu" else None
    lines = table(["part", "outcome", "seconds"], parts)
    if found["check"]:
        gates = found["check"]["gates"]
        failed = [gate for gate in gates if not gate["ok"]]
        lines += ["", f"{len(gates) - len(failed)} of {len(gates)} gates hold."]
        lines += [f"- not {g['name']} ({g['on']}, {g['dtype']}): {g['measured']} of {g['allowed']}" for g in failed]
    if resumed:
        lines += ["", RESUMED[resumed]]
    if bench:
        sizes = ", ".join(f"{name} {size}" for name, size in zip(["windows", "G", "P", "L", "F", "K"], bench["sizes"]))
        lines += ["", f"{device}, {bench['dtype']}; {sizes}."]
        said = {True: "reached", False: "not reached", None: ""}
        cells = [[e["name"], *(number(e[key]) for key in ["here", "peer", "value", "goal"]), said[e["reached"]]] for e in rows]
        lines += table(["", "gist", "PyTorch", "ratio or share", "goal", ""], cells)
        if device == "cpu":
            lines += ["", "A rehearsal: the goals are a GPU's, and nothing is judged by them here."]
    outcomes = [dict(zip(["name", "outcome", "seconds"], part)) for part in parts]
    results = {"device": device, "parts": outcomes, "comparison": rows, "resumed": resumed} | found
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "summary.md").write_text("\n".join(lines[1:]) + "\n")
    print("\n".join(lines) + f"\n\n{output}: summary.md, results.json, log.txt, metrics.jsonl")
    return any(outcome == "failed" for _, outcome, _ in parts)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
