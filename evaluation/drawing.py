"""Drawing a run's plots with matplotlib: PNG files, and SVG markup whose colours follow the page's theme.

A plot is declared as data (`Plot`, `Panel`, `Curve`); `evaluation.plots` declares those of the report. The
colours are Okabe and Ito's, told apart with colour-blind eyes; line styles differ as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from evaluation.run_files import Run

BLUE, SKY, GREEN, AMBER = "#0072b2", "#56b4e9", "#009e73", "#e69f00"
RED, PINK, GREY, INK, FAINT = "#d55e00", "#cc79a7", "#7f7f7f", "#1f2328", "#d9dde3"
THEMED = {BLUE: "blue", SKY: "sky", GREEN: "green", AMBER: "amber", RED: "red", PINK: "pink", GREY: "grey"}
THEMED |= {INK: "ink", FAINT: "faint"}
DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1)), "dashdot", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "atommem",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.pad": 5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Curve:
    """One metric over training."""

    key: str
    label: str
    colour: str


@dataclass(frozen=True)
class Panel:
    """One axis with its curves; `percent`: shares. `draw` adds more and tells whether it did."""

    ylabel: str
    curves: tuple[Curve, ...] = ()
    percent: bool = False
    draw: Callable[[Axes, Run], bool] | None = None


@dataclass(frozen=True)
class Plot:
    """A figure of the report: file name, title, caption and its panels, top to bottom."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Drawn:
    """A plot as it came out: `svg` is markup for the page, `png` the same picture for elsewhere."""

    plot: Plot
    svg: str
    png: bytes


def draw_plots(run: Run, plots: Sequence[Plot]) -> list[Drawn]:
    """Draw every plot that the run has data for; a plot without any is left out."""
    with mpl.rc_context(STYLE):
        figures = [(plot, _figure(plot, run)) for plot in plots]
        return [Drawn(plot, svg_of(fig), png_of(fig, plot.title)) for plot, fig in figures if fig is not None]


def _figure(plot: Plot, run: Run) -> Figure | None:
    figure = Figure(figsize=(4.9, 3.5), layout="constrained")
    axes = figure.subplots(len(plot.panels), 1, sharex=True, squeeze=False)[:, 0]
    drawn = [_draw(axis, panel, run) for axis, panel in zip(axes, plot.panels, strict=True)]
    for axis, has_data in zip(axes, drawn, strict=True):
        if not has_data:
            axis.remove()
    if not any(drawn):
        return None
    last = [axis for axis, has_data in zip(axes, drawn, strict=True) if has_data][-1]
    last.set_xlabel("iteration")
    last.tick_params(labelbottom=True)
    last.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _draw(axis: Axes, panel: Panel, run: Run) -> bool:
    drawn = [_curve(axis, curve, dash, run) for curve, dash in zip(panel.curves, DASHES, strict=False)]
    if panel.draw is not None:
        drawn.append(panel.draw(axis, run))
    axis.set_ylabel(panel.ylabel)
    axis.grid(False, axis="x")
    if panel.percent:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    if axis.dataLim.ymin >= 0:
        axis.set_ylim(0, 1.08 * axis.dataLim.ymax or 1.0)
    if sum(drawn) > 1 or panel.draw is not None:
        handles, labels = axis.get_legend_handles_labels()
        columns = min(3, len(labels)) if max(map(len, labels), default=0) < 15 else 2
        axis.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2
        )
    return any(drawn)


def _curve(axis: Axes, curve: Curve, dash: Any, run: Run) -> bool:
    """The metric, faint, under its moving average once there are enough iterations to smooth."""
    steps, values = run.series(curve.key)
    if not steps:
        return False
    smooth = moving_average(values, len(values) // 12)
    if smooth != values:
        axis.plot(steps, values, color=curve.colour, alpha=0.25, linewidth=1)
    marker = "o" if len(steps) == 1 else None
    axis.plot(
        steps, smooth, color=curve.colour, linestyle=dash, label=curve.label, marker=marker, markersize=4
    )
    return True


def moving_average(values: list[float], radius: int) -> list[float]:
    """Mean over up to ``radius`` values on either side of each, as many as there are."""
    return [float(np.mean(values[max(0, i - radius) : i + radius + 1])) for i in range(len(values))]


def png_of(figure: Figure, title: str) -> bytes:
    """The picture with its title, which the page writes itself."""
    figure.suptitle(title, fontsize=10.5, fontweight="bold", x=0.02, ha="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white")
    return buffer.getvalue()


def svg_of(figure: Figure) -> str:
    """Markup without prologue and metadata; colours become CSS variables, the printed ones their fallback."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', svg, count=1, flags=re.DOTALL
    )
    for colour, name in THEMED.items():
        svg = svg.replace(colour, f"var(--{name}, {colour})")
    return svg.replace("xlink:href", "href")
