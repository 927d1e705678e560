"""An evaluation's tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.console import console
from evaluation.paired import Pair
from evaluation.statistics import Interval
from evaluation.tables import Line, SuiteTable

OTHERS = ("em", "f1", "cover_em")  # scores that every suite has
TEXTS = ("variant", "suite", "variants", "score", "failed")


def print_tables(made: Sequence[SuiteTable]) -> None:
    """A table of scores and one of costs for every suite."""
    for suite in made:
        _print_scores(suite)
        _print_costs(suite)


def _print_scores(suite: SuiteTable) -> None:
    others = [name for name in OTHERS if name != suite.headline]
    columns = ["variant", suite.headline, "95%", *others, "diff", "p", "for 2 points", "tasks", "failed"]
    shown = _table(f"{suite.suite}: scores (%)", columns)
    for line in suite.lines:
        if line.score is not None:
            shown.add_row(*_scores(line, line.score, others))
    _show(shown)
    for line in suite.lines:
        if line.score is None:
            why = f"cannot run here: {line.unavailable}" if line.unavailable else "no results"
            console.print(f"{line.variant}: {why}", highlight=False, markup=False)


def _scores(line: Line, score: Interval, others: Sequence[str]) -> list[str]:
    versus = ["", "", ""]
    if (found := line.difference) is not None:
        versus = [f"{100 * found.interval.mean:+.1f}", f"{found.p_value:.3f}", str(found.needed or "-")]
    failed = [f"{count} {boundary}" for boundary, count in line.failures.items()]
    failed += [f"{line.unjudged} unjudged"] if line.unjudged else []
    more = [f"{100 * line.others[name]:.1f}" for name in others]
    return [
        line.variant, f"{100 * score.mean:.1f}", _bounds(score), *more, *versus, str(line.tasks), ", ".join(failed)
    ]  # fmt: skip


def _print_costs(suite: SuiteTable) -> None:
    columns = ["variant", "seconds", "tokens in", "cached", "out", "calls", "retrievals", "cut", "price"]
    shown = _table(f"{suite.suite}: per task", columns)
    for line in (line for line in suite.lines if line.tasks):
        c = line.costs
        shown.add_row(
            line.variant, f"{c['seconds']:.1f}", f"{c['tokens_in']:.0f}", f"{c['cached']:.0%}",
            f"{c['tokens_out']:.0f}", f"{c['calls']:.1f}", f"{c['retrievals']:.1f}", f"{c['tokens_cut']:.0f}",
            f"{c['price']:.4g}",
        )  # fmt: skip
    _show(shown)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column in TEXTS else "right")
    return table


def _show(table: Table) -> None:
    """As wide as it is, whatever the terminal: a cut number would be a wrong one."""
    Console(width=200).print(table)


def print_pairs(pairs: Sequence[Pair]) -> None:
    """What two evaluations say about the same questions."""
    columns = ["suite", "variants", "score", "before", "95%", "after", "95%", "diff", "95%", "p", "questions"]
    columns.append("tasks for 2 pts")
    shown = _table("paired on the same questions (%)", columns)
    for pair in pairs:
        names = pair.before if pair.before == pair.after else f"{pair.before} -> {pair.after}"
        found = pair.difference
        shown.add_row(
            pair.suite, names, pair.metric, f"{100 * pair.old.mean:.1f}", _bounds(pair.old),
            f"{100 * pair.new.mean:.1f}", _bounds(pair.new), f"{100 * found.interval.mean:+.1f}",
            _bounds(found.interval), f"{found.p_value:.3f}", str(found.questions), str(found.needed or "-"),
        )  # fmt: skip
    _show(shown)


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "-"
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
