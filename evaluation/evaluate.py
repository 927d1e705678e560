"""Held-out evaluation: the same episodes as in training, one per task, without learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from env.errors import UserError
from env.metrics import scores
from env.types import AnswerRecord, Task
from evaluation.statistics import clustered_interval
from rollout.config import SamplingConfig
from rollout.types import Group, GroupRequest, Trajectory

OPERATIONS = ("create", "read", "update", "delete", "scratchpad", "answer", "invalid")
METRICS = ("em", "f1", "cover_em")


class Collector(Protocol):
    """What `rollout.collector.GroupCollector` does: run requests, yield their groups as they finish."""

    def run(self, requests: Sequence[GroupRequest]) -> Iterator[Group]: ...


@dataclass
class Evaluation:
    """One evaluation of one policy.

    Attributes:
        step: training iterations behind the policy.
        policy_version: of the engine's weights.
        rows: one per question: task_id, question, kind, gold, answer, em, f1, cover_em (and other scores).
        summary: em, f1, cover_em and reward, each {mean, low, high} (95%, clustered by task; bounds None for
            one task); tasks, questions, failures {boundary: n}; per episode: steps, output_tokens, seconds,
            store_size.
        kinds: the kind of question -> {questions, em, f1, cover_em}, as in the summary.
        operations_per_step: by kind of operation.
        invalid_rate: share of operations that were invalid.
        trajectories: the episodes themselves; not part of the JSON.
    """

    step: int
    policy_version: int
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    kinds: dict[str, dict[str, Any]]
    operations_per_step: dict[str, float]
    invalid_rate: float
    trajectories: list[Trajectory] = field(default_factory=list, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; everything but the trajectories."""
        return {name: value for name, value in vars(self).items() if name != "trajectories"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Evaluation:
        """The inverse of `to_json`. Raises TypeError when a field is missing or unknown."""
        return cls(**data)


def evaluate(
    collector: Collector, tasks: Sequence[Task], sampling: SamplingConfig, seed: int, step: int = 0
) -> Evaluation:
    """Run one episode per task and score every question.

    A failed episode counts as unanswered (all scores 0), so that two evaluations always compare the same
    questions; the failures are counted in the summary. Raises UserError when there is no task.
    """
    if not tasks:
        raise UserError("evaluation: no held-out tasks; set loop.eval_episodes to at least 1")
    requests = [
        GroupRequest(group_id=i, task=task, group_size=1, sampling=sampling, seed=seed + i)
        for i, task in enumerate(tasks)
    ]
    groups = {group.group_id: group for group in collector.run(requests)}
    missing = [task.task_id for i, task in enumerate(tasks) if i not in groups]
    if missing:
        raise RuntimeError(f"evaluation: {len(missing)} of {len(tasks)} tasks came back without an episode")
    trajectories = [groups[i].trajectories[0] for i in range(len(tasks))]
    return summarise(tasks, trajectories, step)


def summarise(tasks: Sequence[Task], trajectories: Sequence[Trajectory], step: int) -> Evaluation:
    """The evaluation of one trajectory per task, in the tasks' order."""
    rows = [
        row for task, trajectory in zip(tasks, trajectories, strict=True) for row in _rows(task, trajectory)
    ]
    finished = [t for t in trajectories if t.failure is None]
    counts = {kind: _total(finished, f"ops/{kind}") for kind in OPERATIONS}
    rewards = [t.reward if t.failure is None else 0.0 for t in trajectories]
    summary = {
        **_scores(rows),
        "reward": asdict(clustered_interval(rewards, [task.task_id for task in tasks])),
        "tasks": len(tasks),
        "failures": dict(Counter(t.failure.boundary for t in trajectories if t.failure)),
        **_per_episode(finished),
    }
    kinds = {
        kind: _scores([row for row in rows if row["kind"] == kind])
        for kind in sorted({row["kind"] for row in rows})
    }
    return Evaluation(
        step=step,
        policy_version=max((turn.policy_version for t in trajectories for turn in t.turns), default=0),
        rows=rows,
        summary=summary,
        kinds=kinds,
        operations_per_step={
            kind: _ratio(count, _total(finished, "steps")) for kind, count in counts.items()
        },
        invalid_rate=_ratio(counts["invalid"], sum(counts.values())),
        trajectories=list(trajectories),
    )


def _rows(task: Task, trajectory: Trajectory) -> Iterable[dict[str, Any]]:
    answers = trajectory.answers
    if trajectory.failure is not None or not answers:
        answers = [AnswerRecord(q.text, q.kind, q.answers, None) for q in task.questions]
    for answer in answers:
        yield {
            "task_id": task.task_id,
            "question": answer.question,
            "kind": answer.kind,
            "gold": list(answer.gold),
            "answer": answer.answer,
            **(answer.scores or scores(answer.answer, answer.gold)),
        }


def _scores(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Number of questions and the interval of each metric, clustered by task."""
    tasks = [row["task_id"] for row in rows]
    intervals = {name: asdict(clustered_interval([row[name] for row in rows], tasks)) for name in METRICS}
    return {"questions": len(rows), **intervals}


def _per_episode(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Means over the episodes that finished (0 when none did); seconds are wall-clock, episodes overlap."""
    n = len(trajectories)
    return {
        "steps": _ratio(sum(len(t.turns) for t in trajectories), n),
        "output_tokens": _ratio(sum(len(turn.output_ids) for t in trajectories for turn in t.turns), n),
        "seconds": _ratio(sum(t.seconds for t in trajectories), n),
        "store_size": _ratio(_total(trajectories, "store/size"), n),
    }


def _total(trajectories: Sequence[Trajectory], metric: str) -> float:
    return sum(t.metrics.get(metric, 0.0) for t in trajectories)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
