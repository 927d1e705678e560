"""The tables of an evaluation, from its rows: scores with intervals, what they cost, and where evidence was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.catalog import find_method, make_suite
from evaluation.config import EvaluationConfig, PriceConfig, SuiteConfig, VariantConfig
from evaluation.evaluate import OPERATIONS
from evaluation.evidence import LOSSES
from evaluation.statistics import Interval, clustered_interval, paired_permutation_test, tasks_needed

Rows = Sequence[dict[str, Any]]
SCORE_NAMES = {
    "em": "exact match", "f1": "F1", "cover_em": "cover exact match", "official": "official score", "judge": "judge",
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Against the first variant of the table, on the questions that both answered: `needed` tasks show 2 points."""

    interval: Interval
    p_value: float
    needed: int | None
    questions: int


@dataclass(frozen=True)
class Line:
    """One variant on one suite. `costs` are means per task, `operations` per call; `unavailable`: why it did not run.

    `losses` counts wrong answers by cause; `kinds`: score and number of questions of each kind."""

    variant: str
    method: str
    tasks: int
    questions: int
    score: Interval | None
    others: dict[str, float]
    failures: dict[str, int]
    unjudged: int
    costs: dict[str, float]
    operations: dict[str, float]
    losses: dict[str, int]
    kinds: dict[str, tuple[float, int]]
    difference: Difference | None = None
    unavailable: str | None = None


@dataclass(frozen=True)
class SuiteTable:
    """All variants on one suite; `headline` is the column that `Line.score` comes from."""

    suite: str
    headline: str
    wanted: int
    lines: list[Line]


def tables(rows: Rows, config: EvaluationConfig) -> list[SuiteTable]:
    """One table per suite of the configuration, variants in its order."""
    return [_table(suite, [row for row in rows if row["suite"] == suite.label], config) for suite in config.suites]


def headline_of(suite: SuiteConfig, judged: bool) -> str:
    """The score that a suite is read by; a judge's where there is one, else whether the answer contains the gold."""
    headline = make_suite(suite.suite, suite.options).headline
    return "cover_em" if headline == "judge" and not judged else headline


def unavailable(variant: VariantConfig) -> str | None:
    """Why a method cannot run in this environment; None when it can."""
    check = getattr(find_method(variant.method, variant.options), "unavailable", None)
    return check() if check else None


def _table(suite: SuiteConfig, rows: Rows, config: EvaluationConfig) -> SuiteTable:
    headline = headline_of(suite, config.judge is not None)
    by_variant = {v.label: [row for row in rows if row["variant"] == v.label] for v in config.variants}
    first = next(iter(by_variant.values()))
    lines = [_line(v, by_variant[v.label], first, headline, config.price) for v in config.variants]
    return SuiteTable(suite.label, headline, config.tasks_of(suite), lines)


def _line(variant: VariantConfig, rows: Rows, first: Rows, headline: str, price: PriceConfig) -> Line:
    reason = None if rows else unavailable(variant)
    if rows and all(row["failure"] for row in rows):  # such a method has no score, least of all 0
        reason, rows = f"all of its tasks failed, the first one so: {rows[0]['why']}", []
    tasks = list({row["task_id"]: row for row in rows}.values())
    scored = [row for row in rows if row[headline] is not None]
    calls = sum(row["calls"] for row in tasks)
    return Line(
        variant=variant.label,
        method=variant.method,
        tasks=len(tasks),
        questions=len(rows),
        score=interval(scored, headline) if scored else None,
        others={name: _mean([r[name] for r in rows if r[name] is not None]) for name in ("em", "f1", "cover_em")},
        failures=dict(Counter(row["failure"] for row in tasks if row["failure"])),
        unjudged=sum(row["judge_error"] is not None for row in rows),
        costs=_costs(tasks, price),
        operations={kind: sum(row[f"ops_{kind}"] for row in tasks) / calls if calls else 0.0 for kind in OPERATIONS},
        losses={cause: sum(row["cause"] == cause for row in rows) for cause in LOSSES},
        kinds=_kinds(scored, headline),
        difference=None if rows is first else paired(first, rows, headline),
        unavailable=reason,
    )


def interval(rows: Rows, score: str) -> Interval:
    """The mean of a score with its 95% interval over whole tasks."""
    return clustered_interval([row[score] for row in rows], [row["task_id"] for row in rows])


def paired(before: Rows, after: Rows, score: str) -> Difference | None:
    """after - before on the questions that both have a score for; None when there is none."""
    old = {(row["task_id"], row["position"]): row[score] for row in before if row[score] is not None}
    new = {(row["task_id"], row["position"]): row[score] for row in after if row[score] is not None}
    shared = [key for key in old if key in new]
    if not shared:
        return None
    clusters = [task_id for task_id, _ in shared]
    first, second = [old[key] for key in shared], [new[key] for key in shared]
    return Difference(
        clustered_interval([b - a for a, b in zip(first, second, strict=True)], clusters),
        paired_permutation_test(first, second, clusters),
        tasks_needed(first, second, clusters),
        len(shared),
    )


def _kinds(rows: Rows, score: str) -> dict[str, tuple[float, int]]:
    by_kind: dict[str, list[float]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row[score])
    return {kind: (_mean(values), len(values)) for kind, values in sorted(by_kind.items())}


def _costs(tasks: Rows, price: PriceConfig) -> dict[str, float]:
    """Means per task as in the paper's table 6, the prefix cache's share of the input, and the price."""
    names = ("seconds", "tokens_in", "tokens_out", "calls", "retrievals", "tokens_cut")
    costs = {name: _mean([row[name] for row in tasks]) for name in names}
    read, cached = sum(row["tokens_in"] for row in tasks), sum(row["tokens_cached"] for row in tasks)
    costs["cached"] = cached / read if read else 0.0
    per_task = (costs["tokens_in"] * (1 - costs["cached"]), costs["tokens_in"] * costs["cached"], costs["tokens_out"])
    rates = (price.input, price.cached_input, price.output)
    return costs | {"price": sum(n * rate for n, rate in zip(per_task, rates, strict=True)) / 1e6}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
