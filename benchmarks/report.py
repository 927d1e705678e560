"""Writes the table and the plots of docs/benchmarks.md from benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS, Ratio

PAGE = Path("docs/benchmarks.md")
PLOTS = Path("docs/benchmarks")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
ORDER = (
    "rollouts", "prefix_cache", "memory", "embedding", "shared_prefixes", "learner", "loss_memory", "weight_sync",
    "iteration", "learning", "startup",
)  # fmt: skip


def main() -> None:
    """Table between the markers, plots beside the page; says which benchmarks have no result."""
    found = {name: json.loads(path.read_text()) for name in ORDER if (path := RESULTS / f"{name}.json").is_file()}
    PLOTS.mkdir(parents=True, exist_ok=True)
    for name, draw in (("memory", draw_memory), ("iteration", draw_iteration), ("learning", draw_learning)):
        if name in found:
            draw(found[name]["series"])
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{measured(found)}\n{END}{after}", encoding="utf-8")
    for name, result in found.items():
        for ratio in result["ratios"]:
            print(f"[{name}] {Ratio(**ratio)}")


def measured(found: dict[str, Any]) -> str:
    """The machines and the table."""
    lines = ["| what | ours | baseline | ratio | target | | source of the baseline, notes |", "|---|" + "---|" * 6]
    for result in found.values():
        lines += [row(Ratio(**ratio)) for ratio in result["ratios"]]
    runs = ["", "| command | seconds | load when it ended |", "|---|---|---|"]
    runs += [f"| `{one['command']}` | {one['seconds']:.0f} | {one['machine']['load']} |" for one in found.values()]
    missing = [name for name in ORDER if name not in found]
    runs += ["", f"Not run yet: {', '.join(missing)}."] if missing else []
    machine = next(iter(found.values()))["machine"] if found else {}
    told = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "load")
    return "\n".join([f"Machine and versions: {told}.", "", *lines, *runs])


def row(ratio: Ratio) -> str:
    """One line of the table."""
    alone = ratio.baseline == "-"
    aim = "" if ratio.target is None else f"{ratio.target:g}x"
    verdict = "" if ratio.target is None else ("met" if ratio.met else "**missed**")
    told = "; ".join(part for part in (ratio.source, ratio.note) if part)
    times = "" if alone else f"{ratio.ratio:.2f}x"
    return f"| {ratio.what} | {ratio.ours} | {ratio.baseline} | {times} | {aim} | {verdict} | {told} |"


def draw_memory(series: dict[str, Any]) -> None:
    """Cost of an operation over the number of entries."""
    figure, axes = _figure()
    sizes = [int(size) for size in series["microseconds"]]
    for name in ("create", "read", "update", "delete"):
        axes.plot(sizes, [costs[name] for costs in series["microseconds"].values()], marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="entries in the memory", ylabel="microseconds per operation")
    axes.set_title("Memory operations, 384 dimensions, one thread")
    axes.legend(frameon=False)
    figure.savefig(PLOTS / "memory.png", dpi=120)


def draw_iteration(series: dict[str, Any]) -> None:
    """Where the seconds of an iteration go."""
    figure, axes = _figure()
    sides = ("off", "on")
    left = [0.0, 0.0]
    for phase in series["seconds"]["on"]:
        widths = [series["seconds"][side][phase] for side in sides]
        axes.barh(["everything off", "everything on"], widths, left=left, label=phase)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds per iteration")
    axes.set_title("One iteration of the scaled recipe")
    axes.legend(frameon=False)
    figure.savefig(PLOTS / "iteration.png", dpi=120)


def draw_learning(series: dict[str, Any]) -> None:
    """Rewards over iterations, and the same over seconds."""
    figure, both = _figure(2)
    for name, width in (("off", 4.0), ("on", 1.3)):  # equal lines must both be seen
        side = series["learning"][name]
        both[0].plot(range(1, len(side["rewards"]) + 1), side["rewards"], linewidth=width, label=f"everything {name}")
        both[1].plot(side["seconds"], side["rewards"], linewidth=width, label=f"everything {name}")
    both[0].set(xlabel="iteration", ylabel="mean reward")
    both[1].set(xlabel="seconds")
    both[0].legend(frameon=False)
    figure.suptitle("The tiny recipe: the same learning in less time", fontsize=11)
    figure.savefig(PLOTS / "learning.png", dpi=120)


def _figure(panels: int = 1) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=(7, 3.6), layout="constrained")
    for one in [axes] if panels == 1 else axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.3)
    return figure, axes


if __name__ == "__main__":
    main()
