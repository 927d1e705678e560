"""The plots of an evaluation: scores, losses, costs, lengths of the input, operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from evaluation.drawing import AMBER, BLUE, DASHES, GREEN, GREY, PINK, RED, SKY, STYLE, png_of, svg_of
from evaluation.tables import SCORE_NAMES, Line, SuiteTable

COLOURS = (BLUE, RED, GREEN, AMBER, PINK, SKY, GREY)
LOSS_COLOURS = {
    "never stored": RED, "stored wrong": PINK, "discarded": GREY, "overwritten": AMBER, "not retrieved": SKY,
    "misread": BLUE, "unanswered": "#4d4d4d", "undecided": "#d9dde3",
}  # fmt: skip
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Picture:
    """A plot as markup for the page and as PNG."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes


def pictures(tables: Sequence[SuiteTable]) -> list[Picture]:
    """Every plot that the tables have data for."""
    drawn = [table for table in tables if any(line.tasks for line in table.lines)]
    plots: tuple[tuple[str, str, str, Callable[[list[SuiteTable]], Figure | None]], ...] = (
        ("scores", "Scores", "The mean with its 95% interval over tasks.", _scores),
        ("losses", "Where evidence was lost", "Share of the questions; the rest was answered right.", _losses),
        ("costs", "Score against cost", "Tokens read and written per task, prefix cache included.", _costs),
        ("documents", "Longer inputs", "The same suite with more documents.", _documents),
        ("operations", "Operations per call", "What the model does with its memory, by variant.", _operations),
    )
    made = []
    with mpl.rc_context(STYLE):
        for name, title, caption, draw in plots:
            if drawn and (figure := draw(drawn)) is not None:
                made.append(Picture(name, title, caption, svg_of(figure), png_of(figure, title)))
    return made


def _panels(tables: list[SuiteTable], height: float) -> tuple[Figure, list]:
    columns = min(2, len(tables))
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(9.8, height * rows), layout="constrained")  # the page's width, one suite or two abreast
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[len(tables) :]:
        axis.remove()
    for axis, table in zip(axes, tables, strict=False):
        axis.set_title(table.suite, fontsize=9, loc="left")
    return figure, axes


def _run(table: SuiteTable) -> list[Line]:
    return [line for line in table.lines if line.score is not None]


def _bounds(line: Line) -> tuple[float, float, float]:
    """Mean and interval; the mean three times where there is no interval."""
    assert line.score is not None
    mean, low, high = line.score.mean, line.score.low, line.score.high
    return mean, mean if low is None else low, mean if high is None else high


def _scores(tables: list[SuiteTable]) -> Figure:
    figure, axes = _panels(tables, 0.9 + 0.24 * max(len(table.lines) for table in tables))
    for axis, table in zip(axes, tables, strict=False):
        lines = _run(table)[::-1]
        means, low, high = np.array([_bounds(line) for line in lines]).T
        errors = np.clip([means - low, high - means], 0, None)
        places = range(len(lines))
        axis.errorbar(
            means, places, xerr=errors,
            fmt="o", color=BLUE, capsize=2.5, linewidth=1.3, markersize=4.5, clip_on=False,
        )  # fmt: skip
        axis.set_yticks(places, [line.variant for line in lines])
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xlim(left=min(0.0, float(low.min())))
        axis.grid(False, axis="y")
        axis.set_xlabel(SCORE_NAMES[table.headline])
    return figure


def _losses(tables: list[SuiteTable]) -> Figure:
    figure, axes = _panels(tables, 1.5 + 0.24 * max(len(table.lines) for table in tables))
    for axis, table in zip(axes, tables, strict=False):
        lines = _run(table)[::-1]
        left = np.zeros(len(lines))
        for cause, colour in LOSS_COLOURS.items():
            shares = np.array([line.losses[cause] / max(line.questions, 1) for line in lines])
            axis.barh(range(len(lines)), shares, left=left, color=colour, label=cause, height=0.7)
            left += shares
        axis.set_yticks(range(len(lines)), [line.variant for line in lines])
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_xlim(0, 1)
        axis.grid(False, axis="y")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _costs(tables: list[SuiteTable]) -> Figure:
    figure, axes = _panels(tables, 3.3)
    for axis, table in zip(axes, tables, strict=False):
        lines = _run(table)
        for number, line in enumerate(lines):
            axis.scatter(
                _tokens(line), _bounds(line)[0], s=34, clip_on=False, zorder=3,
                color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)], label=line.variant,
            )  # fmt: skip
        if max(map(_tokens, lines)) > 8 * min(map(_tokens, lines)):
            _log_ticks(axis)
        else:
            axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.set_ylim(0, 1.1 * max(_bounds(line)[0] for line in lines) or 1.0)
        axis.set_xlabel("tokens per task")
        axis.set_ylabel(SCORE_NAMES[table.headline])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3 if len(tables) == 1 else 5)
    return figure


def _log_ticks(axis: Axes) -> None:
    """A logarithmic x axis that reads 2k, 5k, 10k."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _documents(tables: list[SuiteTable]) -> Figure | None:
    """Score, tokens and seconds against the number of documents, for the suite with the most lengths."""
    families: dict[str, list[tuple[int, SuiteTable]]] = {}
    for table in tables:
        stem, dash, length = table.suite.rpartition("-")
        if dash and length.isdigit():
            families.setdefault(stem, []).append((int(length), table))
    family = max(families.values(), key=len, default=[])
    if len(family) < 2:
        return None
    family.sort(key=lambda item: item[0])
    figure = Figure(figsize=(9.8, 3.3), layout="constrained")
    axes = figure.subplots(1, 3)
    names = [line.variant for line in _run(family[0][1])]
    for number, name in enumerate(names):
        points = [(docs, line) for docs, table in family for line in _run(table) if line.variant == name]
        style: Any = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
        lengths, lines = [docs for docs, _ in points], [line for _, line in points]
        for axis, read in zip(axes, (lambda line: _bounds(line)[0], _tokens, _seconds), strict=True):
            axis.plot(lengths, [read(line) for line in lines], marker="o", markersize=3.5, label=name, **style)
    labels = (SCORE_NAMES[family[0][1].headline], "tokens per task", "seconds per task")
    for axis, label in zip(axes, labels, strict=True):
        axis.set_xscale("log")
        axis.set_xticks([docs for docs, _ in family], [str(docs) for docs, _ in family], minor=False)
        axis.minorticks_off()
        axis.set_xlabel("documents")
        axis.set_ylabel(label)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[0].set_ylim(bottom=0)
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _tokens(line: Line) -> float:
    return line.costs["tokens_in"] + line.costs["tokens_out"]


def _seconds(line: Line) -> float:
    return line.costs["seconds"]


def _operations(tables: list[SuiteTable]) -> Figure | None:
    """Create, read, update, delete per call, for the variants of AtomMem on the first suite that has any."""
    for table in tables:
        lines = [line for line in _run(table) if line.method == "atommem"]
        if len(lines) < 2:
            continue
        figure = Figure(figsize=(9.8, 3.3), layout="constrained")
        axis = figure.subplots()
        kinds = (("create", GREEN), ("read", BLUE), ("update", AMBER), ("delete", RED), ("scratchpad", PINK))
        for number, (kind, colour) in enumerate(kinds):
            places = np.arange(len(lines)) + 0.16 * (number - 2)
            axis.bar(places, [line.operations[kind] for line in lines], 0.16, color=colour, label=kind)
        axis.set_xticks(range(len(lines)), [line.variant for line in lines], rotation=20, ha="right")
        axis.yaxis.set_major_locator(MaxNLocator(5))
        axis.set_ylabel(f"per call, {table.suite}")
        axis.grid(False, axis="x")
        figure.legend(loc="outside lower center", ncols=5)
        return figure
    return None
