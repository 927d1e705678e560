"""The plots of the report, top to bottom: what each shows, of which metrics."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from evaluation.drawing import AMBER, BLUE, GREEN, GREY, PINK, RED, Curve, Panel, Plot
from evaluation.run_files import Run


def _evaluations(axis: Axes, run: Run) -> bool:
    """Held-out exact match with its interval."""
    points = [(e.step, e.summary["em"]) for e in run.evaluations]
    if not points:
        return False
    means = [em["mean"] for _, em in points]
    lower = [em["mean"] - (em["mean"] if em["low"] is None else em["low"]) for _, em in points]
    upper = [(em["mean"] if em["high"] is None else em["high"]) - em["mean"] for _, em in points]
    axis.errorbar(
        [step for step, _ in points],
        means,
        yerr=np.clip([lower, upper], 0, None),
        fmt="o",
        color=RED,
        capsize=3,
        markersize=5,
        linewidth=1.3,
        zorder=4,
        label="held-out exact match, 95%",
    )
    return True


PHASES = (
    ("rollout", BLUE),
    ("learn", AMBER),
    ("sync", GREEN),
    ("checkpoint", PINK),
    ("evaluate", RED),
    ("other", GREY),
)


def _phases(axis: Axes, run: Run) -> bool:
    """Seconds of each phase stacked; `other` is what the total has beyond them."""
    steps, total = run.series("time/total")
    if not steps:
        return False
    known = [dict(zip(*run.series(f"time/{name}"), strict=True)) for name, _ in PHASES[:-1]]
    heights = np.array([[phase.get(step, 0.0) for step in steps] for phase in known])
    heights = np.vstack([heights, np.clip(np.array(total) - heights.sum(0), 0, None)])
    bottom = np.zeros(len(steps))
    width = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    for (name, colour), height in zip(PHASES, heights, strict=True):
        if height.any():
            axis.bar(steps, height, width, bottom=bottom, color=colour, label=name, linewidth=0)
            bottom += height
    return True


PLOTS = (
    Plot(
        "reward",
        "Reward and exact match",
        "Sampled training episodes (new tasks at every iteration) and the evaluations on held-out tasks.",
        (
            Panel(
                "per episode",
                (Curve("reward/mean", "reward", BLUE), Curve("em", "exact match (training)", GREEN)),
                percent=True,
                draw=_evaluations,
            ),
        ),
    ),
    Plot(
        "operations",
        "Operations per step",
        "How memory management changes with training: valid operations per model output, by kind.",
        (
            Panel(
                "per step",
                (Curve("operations/create", "create", GREEN), Curve("operations/read", "read", BLUE)),
            ),
            Panel(
                "per step",
                (
                    Curve("operations/update", "update", AMBER),
                    Curve("operations/delete", "delete", RED),
                    Curve("operations/scratchpad", "scratchpad", PINK),
                ),
            ),
        ),
    ),
    Plot(
        "lengths",
        "Lengths",
        "Mean tokens of a prompt and of an output.",
        (
            Panel("prompt tokens", (Curve("tokens/prompt_mean", "prompt", BLUE),)),
            Panel("output tokens", (Curve("tokens/output_per_turn", "output per turn", AMBER),)),
        ),
    ),
    Plot(
        "memory",
        "Memory size",
        "Entries in the store when the episode ends, and entries discarded because it was full.",
        (
            Panel(
                "entries", (Curve("store/size", "stored", GREEN), Curve("store/discarded", "discarded", RED))
            ),
        ),
    ),
    Plot(
        "invalid",
        "Invalid operations",
        "Share of all operations that could not be applied.",
        (Panel("share", (Curve("invalid_rate", "invalid", RED),), percent=True),),
    ),
    Plot(
        "mismatch",
        "Engine and learner",
        "How far the two disagree on the sampled tokens' log-probabilities: mean difference and KL.",
        (
            Panel("mean |difference|", (Curve("mismatch/mean_abs", "mean absolute difference", BLUE),)),
            Panel("KL", (Curve("mismatch/kl", "KL", PINK),)),
        ),
    ),
    Plot(
        "learning",
        "Optimisation",
        "Entropy of the policy, and the norm of the gradient before clipping.",
        (
            Panel("entropy", (Curve("entropy", "entropy", BLUE),)),
            Panel("gradient norm", (Curve("grad_norm", "gradient norm", AMBER),)),
        ),
    ),
    Plot("time", "Time per iteration", "Seconds of each phase, stacked.", (Panel("seconds", draw=_phases),)),
)
