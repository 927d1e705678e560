"""Before and after: what two evaluations of the same questions say, and the sentence drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluation.evaluate import Evaluation
from evaluation.statistics import Interval, clustered_interval, paired_permutation_test

METRIC_NAMES = {"em": "Exact match", "f1": "F1", "cover_em": "Cover exact match"}


@dataclass(frozen=True)
class Line:
    """One line of the table. `difference` and `p_value` need the same questions on both sides."""

    label: str
    questions: int
    before: Interval
    after: Interval | None = None
    difference: Interval | None = None
    p_value: float | None = None


def compare(before: Evaluation, after: Evaluation | None) -> list[Line]:
    """The three metrics over all questions, then exact match by kind where there are several kinds."""
    lines = [_line(name, key, before, after) for key, name in METRIC_NAMES.items()]
    kinds = list(before.kinds)
    if len(kinds) > 1:
        lines += [_line(kind or "(no kind)", "em", before, after, kind) for kind in kinds]
    return lines


def _line(
    label: str, metric: str, before: Evaluation, after: Evaluation | None, kind: str | None = None
) -> Line:
    old = before.summary if kind is None else before.kinds[kind]
    first = Interval(**old[metric])
    new = None if after is None else after.summary if kind is None else after.kinds.get(kind)
    if after is None or new is None:
        return Line(label, old["questions"], first)
    difference, p_value = _paired(_rows(before, kind), _rows(after, kind), metric)
    return Line(label, old["questions"], first, Interval(**new[metric]), difference, p_value)


def _rows(evaluation: Evaluation, kind: str | None) -> list[dict[str, Any]]:
    return [row for row in evaluation.rows if kind is None or row["kind"] == kind]


def _paired(
    before: list[dict[str, Any]], after: list[dict[str, Any]], metric: str
) -> tuple[Interval | None, float | None]:
    tasks = [row["task_id"] for row in before]
    if [(r["task_id"], r["question"]) for r in before] != [(r["task_id"], r["question"]) for r in after]:
        return None, None
    old, new = [row[metric] for row in before], [row[metric] for row in after]
    difference = clustered_interval([b - a for a, b in zip(old, new, strict=True)], tasks)
    return difference, paired_permutation_test(old, new, tasks)


def verdict(line: Line | None) -> str:
    """One sentence about exact match, no stronger than the numbers."""
    if line is None:
        return "The starting policy was not evaluated, so the effect of training cannot be told."
    if line.after is None:
        return "The evaluation after training is not there yet."
    points = 100 * (line.after.mean - line.before.mean)
    change = f"Exact match {'rose' if points > 0 else 'fell'} by {abs(points):.1f} points"
    if line.difference is None or line.p_value is None or line.difference.low is None:
        return (
            f"{change}, measured on different questions or too few tasks for an interval of the difference."
        )
    low, high = signed(line.difference.low), signed(line.difference.high)
    bounds = f"95% interval {low} to {high}, {p_text(line.p_value)}"
    if line.difference.low <= 0 <= line.difference.high:  # type: ignore[operator]
        return (
            f"No change that {line.questions} questions could show: {signed(points / 100)} points ({bounds})."
        )
    apart = "lie apart" if line.after.apart(line.before) else "overlap"
    return f"{change} ({bounds}); the intervals before and after {apart}."


def signed(share: float | None) -> str:
    """A share as points with its sign, e.g. +12.5; a dash when unknown."""
    return "–" if share is None else f"{100 * share:+.1f}".replace("-", "\u2212")


def p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
