"""The report of an evaluation: one self-contained page with tables, plots, losses and a viewer, and plots as PNG.

Texts are untrusted here as in `evaluation.report`, and kept harmless the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from evaluation.config import EvaluationConfig
from evaluation.evidence import LOSSES
from evaluation.figures import pictures
from evaluation.files import replace_file
from evaluation.report import page_environment
from evaluation.results import Results
from evaluation.tables import SCORE_NAMES, SuiteTable
from evaluation.viewer import cells_data

EXAMPLES = 2  # episodes per cell and cause that the viewer takes
Places = dict[tuple[str, str, str], str]  # suite, variant, cause -> link to a step


def write_matrix_report(directory: Path, config: EvaluationConfig, tables: Sequence[SuiteTable]) -> Path:
    """Write `report.html` and `plots/*.png` into an evaluation's directory; returns the page's path."""
    results = Results(directory)
    drawn = pictures(tables)
    (directory / "plots").mkdir(exist_ok=True)
    for picture in drawn:
        replace_file(directory / "plots" / f"{picture.name}.png", picture.png)
    chosen = _choose(results)
    viewer = cells_data(
        (name, (results.read(*_place(trace))["trajectory"] for trace in traces)) for name, traces in chosen
    )
    page = page_environment().get_template("matrix.html.j2").render(
        title=directory.resolve().name,
        config=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        tables=tables,
        losses=LOSSES,
        score_names=SCORE_NAMES,
        links=_links(results, chosen),
        plots=[(picture, Markup(picture.svg)) for picture in drawn],
        viewer=htmlsafe_json_dumps(viewer),
    )  # fmt: skip
    replace_file(directory / "report.html", page.encode())
    return directory / "report.html"


def _choose(results: Results) -> list[tuple[str, list[str]]]:
    """For every cell the traces of a few episodes of each cause."""
    chosen: dict[str, list[str]] = {}
    counts: dict[tuple[str, str], int] = {}
    for row in results.rows():
        key = f"{row['suite']}/{row['variant']}"
        traces = chosen.setdefault(key, [])
        counts[key, row["cause"]] = counts.get((key, row["cause"]), 0) + 1
        if counts[key, row["cause"]] <= EXAMPLES and row["trace"] not in traces:
            traces.append(row["trace"])
    return list(chosen.items())


def _links(results: Results, chosen: Iterable[tuple[str, list[str]]]) -> Places:
    """Where the viewer shows the first example of each cause: the step at which the evidence was lost."""
    place = {trace: (cell, i) for cell, (_, traces) in enumerate(chosen) for i, trace in enumerate(traces)}
    links: Places = {}
    for row in results.rows():
        if row["trace"] in place:
            cell, episode = place[row["trace"]]
            link = f"#at-{cell}-{episode}-{max(row['step'], 1)}"
            links.setdefault((row["suite"], row["variant"], row["cause"]), link)
    return links


def _place(trace: str) -> tuple[str, int]:
    key, _, index = trace.rpartition("/")
    return key, int(index)

