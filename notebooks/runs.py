"""Run directories as data frames, intervals by bootstrap over documents, and where a gist stands in its prefix.

Reads only files that `gist` wrote. Every file but `config.toml` may be absent: what is missing gives empty frames.
"""

import json
import os
import re
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(os.environ.get("GIST_RUNS") or "../runs")
READERS = {"generator": "kl", "base": "kl_base", "adapted": "kl_adapted"}
READER_NAMES = {
    "generator": "read by the co-trained generator",
    "base": "read by the frozen base",
    "adapted": "each read by a reader of its own",
}
RESAMPLES = 2000
COLOURS = ["#1f5fa8", "#c8501e", "#2f855a", "#8a4fa3", "#9a7b1f", "#4a4a4a", "#c2367a", "#2a9aa8"]
STYLE = {
    "figure.dpi": 80,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
}


class NoRuns(Exception):
    """Nothing to show; a notebook prints the message and no traceback."""

    def _render_traceback_(self):
        return [f"NoRuns: {self}"]


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_lines(path):
    """The objects of a JSONL file; a last line that breaks off, as a running process leaves it, is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):  # nothing ends it
                break
            raise ValueError(f"{path.name}: line {number}: {error}") from error
    return rows


def by_step(folder, pattern):
    """[(step, path)] of what `pattern` finds, ascending."""
    found = [(re.search(r"step_(\d+)", path.name), path) for path in folder.glob(pattern)]
    return sorted((int(match[1]), path) for match, path in found if match)


class Run:
    """One run directory. `group` is the experiment and, in a sweep, the arm: all of the name but the seed."""

    def __init__(self, path):
        self.path, self.experiment, self.name = path, path.parent.name, path.name
        parts = path.name.split("__")
        seeds = [part[len("seed="):] for part in parts if part.startswith("seed=")]
        self.seed = int(seeds[0]) if seeds and seeds[0].isdigit() else 0
        arm = [part for part in parts if not part.startswith("seed=")]
        self.group = "/".join([self.experiment, *arm])
        self.config = (path / "config.toml").read_text(encoding="utf-8")

    def setting(self, section, key):
        """One plain value of `config.toml`, as text (tomllib is not in every Python that this runs on)."""
        body = re.search(rf"(?ms)^\[{re.escape(section)}\]\n(.*?)(?=^\[|\Z)", self.config) if section else None
        text = (body[1] if body else "") if section else self.config.split("\n[")[0]
        found = re.search(rf"(?m)^{re.escape(key)} = (.*)$", text)
        return found[1].strip().strip('"') if found else None

    @cached_property
    def summary(self):
        return read_json(self.path / "summary.json")

    @property
    def setting_of_windows(self):
        """What must agree for two runs to share an axis: the lengths of the windows and the budget."""
        lengths = tuple(self.setting("data", f"{span}_tokens") for span in ("prefix", "local", "future"))
        return (*lengths, self.setting("budget", "keep_ratio") or self.setting("budget", "tokens"))

    @cached_property
    def metrics(self):
        """`metrics.jsonl` and `timings.jsonl`, a row a step."""
        frame = pd.DataFrame(read_lines(self.path / "metrics.jsonl"))
        timings = pd.DataFrame(read_lines(self.path / "timings.jsonl"))
        if frame.empty:
            return pd.DataFrame({"step": pd.Series(dtype=int)})
        return frame.merge(timings, on="step", how="left") if len(timings) else frame

    @cached_property
    def evaluation(self):
        """The folder of the last evaluation that has figures of windows, or None."""
        folders = [path for _, path in by_step(self.path / "eval", "step_*") if (path / "windows.jsonl").is_file()]
        return folders[-1] if folders else None

    @cached_property
    def windows(self):
        """A row a window and compressor: tokens, context_value_kl and the KL by reader."""
        rows = []
        for row in read_lines(self.evaluation / "windows.jsonl") if self.evaluation else []:
            for compressor, figures in row.items():
                if isinstance(figures, dict):
                    shared = {key: row[key] for key in ("window", "document", "context_value_kl")}
                    rows.append({**shared, "compressor": compressor, **figures})
        frame = pd.DataFrame(rows)
        return frame.assign(seed=self.seed, group=self.group) if len(frame) else frame

    @cached_property
    def examples(self):
        return read_lines(self.evaluation / "examples.jsonl") if self.evaluation else []

    @cached_property
    def rollouts(self):
        """A row a sampled gist of the steps that were logged."""
        frames = [
            pd.DataFrame(read_lines(path)).assign(step=step) for step, path in by_step(self.path / "rollouts", "*.jsonl")
        ]
        frames = [frame for frame in frames if "gist" in frame]
        return pd.concat(frames, ignore_index=True).assign(seed=self.seed) if frames else pd.DataFrame()

    def entry(self, compressor):
        """What `summary.json` says of a compressor."""
        return (self.summary or {}).get("eval", {}).get("compressors", {}).get(compressor, {})


def find(experiments=None, root=None, need="metrics"):
    """{group: [runs by seed]} of the co-training runs that have what a notebook needs: `metrics`, `windows` or `texts`."""
    root = Path(root or ROOT)
    has = {
        "metrics": lambda run: len(run.metrics),
        "windows": lambda run: run.evaluation,
        "texts": lambda run: run.evaluation or len(run.rollouts),
    }[need]
    groups = {}
    for config in sorted(root.glob("*/*/config.toml")):
        run = Run(config.parent)
        if run.setting(None, "kind") == "train" and (experiments is None or run.experiment in experiments) and has(run):
            groups.setdefault(run.group, []).append(run)
    if not groups:
        wanted = "" if experiments is None else f" of {', '.join(experiments)}"
        raise NoRuns(
            f"no run{wanted} with {need} in the folder `{root.name or root}`. Make one with "
            "`gist train experiments/code.toml`, or name another folder of runs: GIST_RUNS=FOLDER."
        )
    return {group: sorted(runs, key=lambda run: run.seed) for group, runs in groups.items()}


def families(groups):
    """Groups that share windows and budget, and so an axis: [{group: runs}]."""
    found = {}
    for group, runs in groups.items():
        found.setdefault(runs[0].setting_of_windows, {})[group] = runs
    return list(found.values())


def pooled(runs):
    """The windows of several seeds, under each other."""
    frames = [run.windows for run in runs if len(run.windows)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def describe(groups):
    """A row a group: what was read."""
    rows = []
    for group, runs in groups.items():
        summary = next((run.summary for run in runs if run.summary), None) or {"eval": {}}
        rows.append({
            "experiment": group,
            "seeds": ", ".join(str(run.seed) for run in runs),
            "updates": max((len(run.metrics) for run in runs), default=0),
            "finished": sum(run.summary is not None for run in runs),
            "budget, tokens": summary.get("budget_tokens"),
            "prefix, tokens": summary.get("windows", {}).get("prefix"),
            "windows": summary["eval"].get("n_windows"),
            "documents": summary["eval"].get("n_documents"),
        })
    return pd.DataFrame(rows).set_index("experiment")


def ratio(numerator, denominator, documents, resamples=RESAMPLES, seed=0):
    """(value, low, high) of sum(numerator) / sum(denominator), 95 % by bootstrap over documents.

    A document is drawn with its windows of all seeds. Fewer than two documents give no interval (NaN).
    """
    frame = pd.DataFrame({"n": np.asarray(numerator, float), "d": np.asarray(denominator, float), "at": list(documents)})
    frame = frame.dropna()
    if frame.empty or frame["d"].sum() == 0:
        return (np.nan,) * 3
    sums = frame.groupby("at")[["n", "d"]].sum().to_numpy()
    value = sums[:, 0].sum() / sums[:, 1].sum()
    if len(sums) < 2:
        return value, np.nan, np.nan
    drawn = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), resamples) @ sums
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanpercentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return value, low, high


def mean(values, documents):
    return ratio(values, np.ones(len(values)), documents)


def gap_closed(frame, kl="kl"):
    """1 − sum of KL / sum of context_value, the denominator resampled with it."""
    context = frame["context_value_kl"]
    return ratio(context - frame[kl], context, frame["document"])


def paired(frame, one, other, kl="kl"):
    """gap_closed of `one` less that of `other` on the windows that both saw."""
    keys = ["seed", "window"]
    a, b = (frame[frame["compressor"] == name].set_index(keys) for name in (one, other))
    both = a.join(b[[kl]], rsuffix="_other", how="inner")
    return ratio(both[f"{kl}_other"] - both[kl], both["context_value_kl"], both["document"])


def role(run, compressor):
    """As the reports have it: contestant, search, hindsight, reference or leak control."""
    entry = run.entry(compressor)
    kept = entry.get("keep_ratio", 0) * ((run.summary or {}).get("windows", {}).get("prefix") or 1)
    if entry.get("leak_control"):
        return "leak control"
    if entry.get("cheating"):
        return "hindsight"
    if entry.get("search"):
        return "search"
    return "reference" if kept == 0 or kept > (run.summary or {}).get("budget_tokens", np.inf) + 1e-6 else "contestant"


def rates(runs):
    """A row a reader and compressor: achieved keep_ratio, KL and gap_closed, pooled over the seeds, with intervals."""
    frame = pooled(runs)
    summary = next((run.summary for run in runs if run.summary), None)
    prefix = summary["windows"]["prefix"] if summary else int(runs[0].setting("data", "prefix_tokens") or 0)
    finished = next((run for run in runs if run.summary), runs[0])
    rows = []
    for reader, kl in READERS.items():
        if kl not in frame:
            continue
        for compressor, part in frame.dropna(subset=[kl]).groupby("compressor"):
            k, g = mean(part[kl], part["document"]), gap_closed(part, kl)
            rows.append({
                "reader": reader, "compressor": compressor, "role": role(finished, compressor),
                "keep_ratio": part["tokens"].mean() / prefix if prefix else np.nan, "windows": len(part),
                "kl": k[0], "kl_low": k[1], "kl_high": k[2],
                "gap_closed": g[0], "gap_low": g[1], "gap_high": g[2],
            })
    return pd.DataFrame(rows)


def comparisons(root=None):
    """{file: (points, bound)} of every `comparison.json` of `gist compare`, up to three folders deep.

    `points` has a row a compressor, budget and reader; `bound` the least KL by keep_ratio, where it is known. A file that
    has no points, or none with these keys, is passed over.
    """
    root = Path(root or ROOT)
    found = {}
    for path in sorted(path for depth in ("", "*/", "*/*/", "*/*/*/") for path in root.glob(f"{depth}comparison.json")):
        content = read_json(path)
        points = pd.DataFrame(content.get("points") or []) if isinstance(content, dict) else pd.DataFrame()
        if {"compressor", "reader", "keep_ratio", "gap_closed"} <= set(points.columns):
            bounds = points.get("gap_closed_ci95", pd.Series([[None, None]] * len(points)))
            points["low"], points["high"] = (pd.to_numeric(bounds.str[i]) for i in (0, 1))
            bound = pd.DataFrame(content.get("bound") or [], columns=["keep_ratio", "kl"])
            found[path.relative_to(root).as_posix()] = points, bound.assign(gap_closed=1 - bound["kl"] / (content.get("context_value") or np.nan))
    return found


def copies(gist, prefix, shortest=4):
    """The gist as runs copied from the prefix: [(start in gist, length, [places in prefix])], all in characters.

    From left to right, each run as long as it can be and of at least `shortest` characters.
    """
    runs, at = [], 0
    while at + shortest <= len(gist):
        length = shortest
        if gist[at:at + length] not in prefix:
            at += 1
            continue
        while at + length < len(gist) and gist[at:at + length + 1] in prefix:
            length += 1
        runs.append((at, length, places(gist[at:at + length], prefix)))
        at += length
    return runs


def places(text, within):
    found, at = [], within.find(text)
    while at >= 0:
        found.append(at)
        at = within.find(text, at + 1)
    return found


def copied(gist, prefix, shortest=4, bins=10):
    """What `copies` says, as figures: share of the gist's characters copied, number and mean length of the runs, and from
    which tenth of the prefix (index 0: its start) they come. A run that stands at several places counts for each in part."""
    runs = copies(gist, prefix, shortest)
    by_place = np.zeros(bins)
    for _, length, where in runs:
        for place in where:
            spots = ((place + np.arange(length)) * bins // max(len(prefix), 1)).clip(0, bins - 1)
            np.add.at(by_place, spots, 1 / len(where))
    total = sum(length for _, length, _ in runs)
    return {
        "characters": len(gist),
        "copied": total / len(gist) if gist else np.nan,
        "runs": len(runs),
        "run_length": total / len(runs) if runs else np.nan,
        "places": by_place,
    }


def smooth(series, width):
    return series.rolling(width, center=True, min_periods=1).mean()


def draw(axis, runs, key, colour, label, width=1, start=0, style="-"):
    """One metric against the step: the mean of the seeds, smoothed over `width` steps, each seed faint behind it.

    False when no run has it.
    """
    seeds = []
    for run in runs:
        if key in run.metrics:
            series = run.metrics.set_index("step")[key].dropna()
            seeds.append(series[series.index >= start])
    seeds = [series for series in seeds if len(series)]
    if not seeds:
        return False
    for series in seeds if len(seeds) > 1 else []:
        axis.plot(series.index, smooth(series, width), color=colour, alpha=0.3, lw=0.8, ls=style)
    middle = pd.concat(seeds, axis=1).mean(axis=1).sort_index()
    few = len(middle) <= 12
    axis.plot(middle.index, smooth(middle, width), color=colour, lw=1.8, label=label, ls=style, marker="o" if few else None, ms=3)
    return True


def percent(triple, digits=1):
    value, low, high = (100 * x for x in triple)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" if np.isfinite(low) else f"{value:.{digits}f}"


def clip(text, length, end=True):
    """A piece of text on one line, cut at its far end."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    return "… " + text[-length:] if end else text[:length] + " …"
