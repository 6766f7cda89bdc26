"""What `scripts/gpu-check` found, as one file and one table: ratios to PyTorch, the share of the matrix-product rate, and on
a GPU whether the goals are reached. Standard library only.

    python bench/summary.py WORK OUTPUT DEVICE

WORK holds `parts` (name, outcome, seconds, a line each) and what ran of `check.json`, `bench.json`, `rollouts.json`,
`step.json`, `resumed`. Written to OUTPUT: `results.json` (all of them) and `summary.md`. Fails if a part did.
"""

import json
import sys
from pathlib import Path

GOALS = {"decoding": 3.0, "training": 0.4, "step": 2.0}


def read(path: Path):
    try:
        text = path.read_text()
    except OSError:
        return None
    return json.loads(text) if path.suffix == ".json" and text.strip() else text.strip() or None


def compare(bench: dict, rollouts: dict | None, step: dict | None) -> list[dict]:
    """Rows: what, here, PyTorch's, ratio or share, goal."""
    rows = []
    for ours in bench["decoding"]:
        for theirs in (rollouts or {}).get("decoding", []):
            if theirs["batch"] == ours["batch"]:
                key = "decode_tokens_per_second"
                name = f"decoding, {ours['batch']} gists at once, tokens/s"
                rows.append(dict(name=name, here=ours[key], peer=theirs[key], value=ours[key] / theirs[key], goal=GOALS["decoding"]))
    if rollouts:
        here, peer = bench["rollout_tokens_per_second"], rollouts["rollout_tokens_per_second"]
        rows.append(dict(name="rollouts of a step, tokens/s", here=here, peer=peer, value=here / peer, goal=None))
    if step:
        for part in bench["parts"]:
            peer = step["parts"].get(part["name"])
            rows.append(dict(name=f"{part['name']}, s", here=part["seconds"], peer=peer, value=peer / part["seconds"], goal=None))
        here, peer = bench["step_seconds"], step["step_seconds"]
        rows.append(dict(name="whole step, s", here=here, peer=peer, value=peer / here, goal=GOALS["step"]))
    rate = f"updates, share of {bench['gemm_gflops'] / 1e3:.2f} TFLOP/s ({bench['dtype']} matrix product)"
    rows.append(dict(name=rate, here=None, peer=None, value=bench["training_gemm_share"], goal=GOALS["training"]))
    return rows


def number(value) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(work: Path, output: Path, device: str) -> int:
    parts = [line.split("\t") for line in (work / "parts").read_text().splitlines()]
    found = {name: read(work / f"{name}.json") for name in ["check", "bench", "rollouts", "step"]}
    rows = compare(found["bench"], found["rollouts"], found["step"]) if found["bench"] else []
    judged = device != "cpu"
    for row in rows:
        row["reached"] = row["value"] >= row["goal"] if judged and row["goal"] else None
    lines = ["| part | outcome | seconds |", "|---|---|---|"]
    lines += [f"| {name} | {outcome} | {seconds} |" for name, outcome, seconds in parts]
    if gates := (found["check"] or {}).get("gates"):
        lines += ["", f"{sum(gate['ok'] for gate in gates)} of {len(gates)} gates hold."]
        lines += [f"- fails: {gate['name']} ({gate['on']}, {gate['dtype']}): {gate['measured']} of {gate['allowed']}" for gate in gates if not gate["ok"]]
    resumed = read(work / "resumed")
    if resumed:
        lines += ["", f"The run that was killed and resumed has {'the same' if resumed == 'same' else 'other'} metrics {'to the last byte as' if resumed == 'same' else 'than'} the one that went through."]
    if rows:
        w, g, p, l, f, k = found["bench"]["sizes"]
        lines += ["", f"{device}, {found['bench']['dtype']}: {w} windows, G {g}, P {p}, L {l}, F {f}, K {k}.", ""]
        lines += ["| | gist | PyTorch | ratio or share | goal | reached |", "|---|---|---|---|---|---|"]
        for row in rows:
            reached = {True: "yes", False: "no", None: ""}[row["reached"]]
            goal = number(row["goal"]) if judged else ""
            lines.append(f"| {row['name']} | {number(row['here'])} | {number(row['peer'])} | {number(row['value'])} | {goal} | {reached} |")
        if not judged:
            lines += ["", "A rehearsal: on a CPU nothing is judged by the goals."]
    results = {"device": device, "parts": [dict(zip(["name", "outcome", "seconds"], part)) for part in parts], "comparison": rows, "resumed": resumed} | found
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "summary.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines) + f"\n\n{output}: results.json, summary.md, log.txt, metrics.jsonl")
    return any(outcome == "failed" for _, outcome, _ in parts)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
