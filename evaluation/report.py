"""The report of a run: one self-contained HTML page, and its plots as PNG files.

    run directory -> load_run -> compare (before/after) -> draw_plots -> viewer_data -> report.html

Documents, questions and model outputs are untrusted: the template escapes every text, the viewer's data is
embedded as JSON without ``<``, ``>`` and ``&``, the viewer writes text nodes only, and the page's policy
forbids any request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from evaluation.comparison import compare, p_text, signed, verdict
from evaluation.drawing import draw_plots
from evaluation.evaluate import OPERATIONS, Evaluation
from evaluation.files import replace_file
from evaluation.plots import PLOTS
from evaluation.run_files import Run, load_run
from evaluation.statistics import Interval
from evaluation.viewer import viewer_data

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run_dir: Path) -> Path:
    """Write ``run_dir/report.html`` and ``run_dir/plots/*.png``, of a finished or an unfinished run.

    Returns the page's path. Raises UserError when ``run_dir`` is no run directory or has no iteration yet.
    """
    run = load_run(Path(run_dir))
    plots = draw_plots(run, PLOTS)
    (run.directory / "plots").mkdir(exist_ok=True)
    for drawn in plots:
        replace_file(run.directory / "plots" / f"{drawn.plot.name}.png", drawn.png)
    page = (
        page_environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            title=run.name,
            subtitle=_subtitle(run),
            progress=_progress(run),
            plots=[(drawn.plot, Markup(drawn.svg)) for drawn in plots],
            facts=_facts(run),
            config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
            viewer=htmlsafe_json_dumps(viewer_data(run.trajectory_files)),
            **_comparison(run),
        )
    )
    report = run.directory / "report.html"
    replace_file(report, page.encode())
    return report


def page_environment() -> Environment:
    """Jinja for the pages: everything is escaped, nothing undefined is let through."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters.update(percent=percent, signed=signed, p_text=p_text, bounds=bounds)
    environment.globals.update(asset=lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8")))
    return environment


def _comparison(run: Run) -> dict[str, Any]:
    """Before: the first evaluation, of the starting policy. After: the last one, if it is another."""
    evaluations = run.evaluations
    before = evaluations[0] if evaluations and evaluations[0].step == 0 else None
    after = evaluations[-1] if before and len(evaluations) > 1 else None
    lines = compare(before, after) if before else []
    return {
        "before": before,
        "after": after,
        "lines": lines,
        "headline": lines[0] if lines else None,
        "verdict": verdict(lines[0] if lines else None),
        "behaviour": _behaviour(before, after) if before else [],
        "failures": sum(sum(e.summary["failures"].values()) for e in (before, after) if e),
    }


def _behaviour(before: Evaluation, after: Evaluation | None) -> list[tuple[str, str, str]]:
    """How the agent works in the held-out episodes: label, before, after."""

    def row(label: str, read: Any, form: str) -> tuple[str, str, str]:
        return label, form.format(read(before)), form.format(read(after)) if after else "–"

    rows = [
        row(f"{kind} per step", lambda e, kind=kind: e.operations_per_step.get(kind, 0.0), "{:.2f}")
        for kind in OPERATIONS
        if kind != "invalid"
    ]
    return [
        *rows,
        row("invalid operations", lambda e: e.invalid_rate, "{:.2%}"),
        row("steps per episode", lambda e: e.summary["steps"], "{:.1f}"),
        row("output tokens per episode", lambda e: e.summary["output_tokens"], "{:.0f}"),
        row("entries at the end", lambda e: e.summary["store_size"], "{:.1f}"),
    ]


def _subtitle(run: Run) -> str:
    """What was trained, from the configuration, as far as it says."""
    parts = [
        Path(str(run.setting("model"))).name if run.setting("model") else "",
        f"on {run.setting('env.task')}" if run.setting("env.task") else "",
        f"{len(run.metrics)} iteration{'s' if len(run.metrics) > 1 else ''}",
    ]
    tasks, size = run.setting("rollout.tasks_per_batch"), run.setting("rollout.group_size")
    if tasks and size:
        parts.append(f"{tasks} tasks × {size} episodes each")
    return " · ".join(part for part in parts if part)


def _progress(run: Run) -> str:
    """Where an unfinished run stands; empty for a finished one."""
    planned, done = run.setting("loop.iterations"), int(run.metrics[-1]["step"])
    return (
        f"Unfinished: iteration {done} of {planned}." if isinstance(planned, int) and done < planned else ""
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    """Totals of the run as label and value; what was not measured is left out."""
    seconds, episodes = sum(run.series("time/total")[1]), sum(run.series("episodes")[1])
    facts = (
        [("training time", duration(seconds)), ("episodes", f"{episodes:,.0f}")]
        if seconds and episodes
        else []
    )
    for label, key, form, pick in (
        ("invalid operations, last", "invalid_rate", "{:.2%}", lambda v: v[-1]),
        ("log-probability mismatch, largest mean", "mismatch/mean_abs", "{:.2g}", max),
        ("output tokens per second", "speed/output_tokens_per_s", "{:,.0f}", lambda v: sum(v) / len(v)),
    ):
        values = run.series(key)[1]
        if values:
            facts.append((label, form.format(pick(values))))
    failed = {
        name: sum(run.series(f"failures/{name}")[1]) for name in ("engine", "environment", "task", "judge")
    }
    if any(failed.values()):
        facts.append(("failed episodes", ", ".join(f"{n:.0f} {name}" for name, n in failed.items() if n)))
    return facts


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f}%"


def bounds(interval: Interval) -> str:
    """The interval's bounds as percentages; a dash when unknown."""
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{100 * interval.low:.1f} – {100 * interval.high:.1f}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units, e.g. 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
