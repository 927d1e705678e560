"""One row per question: the columns of results.parquet.

Tokens, calls, retrievals, seconds and operations belong to the whole task, whose questions share one reading of the
text; they stand on each of its rows. Sums over a table must count a task once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from env.types import AnswerRecord, Task
from evaluation.cells import Cell, task_hash
from evaluation.evaluate import OPERATIONS
from evaluation.evidence import explain
from evaluation.suite import Suite
from rollout.record import trajectory_to_json
from rollout.types import Trajectory

TEXTS = ("suite", "variant", "method", "model", "task_id", "task_hash", "question", "kind", "answer")
SCORES = ("em", "f1", "cover_em", "official", "judge")
COUNTS = ("tokens_in", "tokens_cached", "tokens_out", "calls", "retrievals", "tokens_cut", "chunks")
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in TEXTS],
        ("position", pa.int32()),
        ("gold", pa.list_(pa.string())),
        *[(name, pa.float64()) for name in SCORES],
        *[(name, pa.int64()) for name in COUNTS],
        *[(f"ops_{kind}", pa.int64()) for kind in OPERATIONS],
        ("seconds", pa.float64()),
        ("failure", pa.string()),  # boundary: why the episode ended without a result; its questions score 0
        ("judge_error", pa.string()),  # the judge gave no verdict, so `judge` is empty; the next run asks again
        ("cause", pa.string()),  # right, or where the evidence was lost
        ("step", pa.int32()),  # at which step
        ("why", pa.string()),
        ("trace", pa.string()),  # suite/variant/index of the file in tasks/
    ]
)


def rows_of(cell: Cell, suite: Suite, task: Task, trajectory: Trajectory, trace: str) -> list[dict[str, Any]]:
    """The rows of one finished (or failed) task, with the suite's own scores. Nothing is judged yet."""
    if trajectory.failure is not None or not trajectory.answers:
        trajectory.answers = [AnswerRecord(q.text, q.kind, q.answers, None) for q in task.questions]
    for question, answer in zip(task.questions, trajectory.answers, strict=True):
        answer.scores = suite.scores(answer.answer, question)
    shared = {
        "suite": cell.suite, "variant": cell.variant, "method": cell.spec.method, "model": cell.model,
        "task_id": task.task_id, "task_hash": task_hash(task), "trace": trace, "judge": None, "judge_error": None,
        "failure": trajectory.failure.boundary if trajectory.failure else None, **_costs(trajectory),
    }  # fmt: skip
    reasons = explain(trajectory_to_json(trajectory))
    return [
        {
            **shared, "position": position, "question": answer.question, "kind": answer.kind,
            "gold": list(answer.gold), "answer": answer.answer, "official": None, **answer.scores,
            "cause": reason.cause, "step": reason.step,
            "why": trajectory.failure.message if trajectory.failure else reason.text,
        }
        for position, (answer, reason) in enumerate(zip(trajectory.answers, reasons, strict=True))
    ]  # fmt: skip


def _costs(trajectory: Trajectory) -> dict[str, Any]:
    metrics, turns = trajectory.metrics, trajectory.turns
    reads = metrics.get("ops/read", 0.0)
    return {
        "tokens_in": sum(len(turn.prompt_ids) for turn in turns),
        "tokens_cached": sum(turn.cached_tokens for turn in turns),
        "tokens_out": sum(len(turn.output_ids) for turn in turns),
        "calls": len(turns),
        "retrievals": int(metrics.get("retrievals", reads)),
        "tokens_cut": int(metrics.get("retrieved_cut", 0)),
        "chunks": int(metrics.get("chunks", 0)),
        **{f"ops_{kind}": int(metrics.get(f"ops/{kind}", 0)) for kind in OPERATIONS},
        "seconds": trajectory.seconds,
    }


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table with the columns above."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)
