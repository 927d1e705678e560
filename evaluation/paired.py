"""Two evaluations of the same tasks, compared question by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from env.errors import UserError
from evaluation.results import Results, read_rows
from evaluation.statistics import Interval
from evaluation.tables import Difference, Rows, interval, paired

METRICS = ("em", "f1", "cover_em", "official", "judge")


@dataclass(frozen=True)
class Pair:
    """One suite: variant `before` of the first run against `after` of the second, by one metric."""

    suite: str
    before: str
    after: str
    metric: str
    old: Interval
    new: Interval
    difference: Difference


def compare_runs(first: str, second: str) -> list[Pair]:
    """Compare two evaluations, each written DIR or DIR:variant; without variants, those of the same name.

    Raises UserError when they share no suite and variant, or when a suite's tasks are not the same in both.
    """
    (dir_a, only_a), (dir_b, only_b) = _split(first), _split(second)
    suites = _same_tasks(Results(dir_a).manifest()["tasks"], Results(dir_b).manifest()["tasks"])
    rows_a, rows_b = read_rows(dir_a), read_rows(dir_b)
    pairs = [
        pair
        for suite in suites
        for before, after in _variants(rows_a, rows_b, suite, only_a, only_b)
        for pair in _pairs(_of(rows_a, suite, before), _of(rows_b, suite, after))
    ]
    if not pairs:
        raise UserError(f"{first} and {second} have no suite and variant in common; name variants as DIR:variant")
    return pairs


def _split(name: str) -> tuple[Path, str | None]:
    directory, colon, variant = name.rpartition(":")
    return (Path(directory), variant) if colon and not Path(name).is_dir() else (Path(name), None)


def _same_tasks(first: Mapping[str, list[str]], second: Mapping[str, list[str]]) -> list[str]:
    shared = [suite for suite in first if suite in second]
    for suite in shared:
        if any(a != b for a, b in zip(first[suite], second[suite], strict=False)):
            raise UserError(
                f"suite {suite!r} has other tasks in the two evaluations (their hashes differ): they were built from "
                "different data, options or seeds, and a comparison would mean nothing"
            )
    return shared


def _variants(a: Rows, b: Rows, suite: str, only_a: str | None, only_b: str | None) -> Iterator[tuple[str, str]]:
    names_a = list(dict.fromkeys(row["variant"] for row in a if row["suite"] == suite))
    names_b = list(dict.fromkeys(row["variant"] for row in b if row["suite"] == suite))
    for name in [only_a] if only_a else names_a:
        other = only_b or name
        if name in names_a and other in names_b:
            yield name, other


def _of(rows: Rows, suite: str, variant: str) -> Rows:
    return [row for row in rows if (row["suite"], row["variant"]) == (suite, variant)]


def _pairs(a: Rows, b: Rows) -> Iterator[Pair]:
    for metric in METRICS:
        if difference := paired(a, b, metric):
            keys = {(r["task_id"], r["position"]) for r in a} & {(r["task_id"], r["position"]) for r in b}
            old, new = (
                [r for r in rows if (r["task_id"], r["position"]) in keys and r[metric] is not None] for rows in (a, b)
            )
            suite, before, after = a[0]["suite"], a[0]["variant"], b[0]["variant"]
            yield Pair(suite, before, after, metric, interval(old, metric), interval(new, metric), difference)
