"""Small run directories, built by hand through the real types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from env.metrics import scores
from env.types import AnswerRecord, OperationRecord, Question, StepRecord, Task
from evaluation.evaluate import summarise
from rollout.record import trajectory_to_json
from rollout.types import Trajectory, Turn


def make_turn(
    text, phase="chunk", position=0, ops=(), retrieved=(), scratchpad="", query=None, output="", version=3
):
    """One turn; `ops` are (kind, text, entry_id[, outcome])."""
    record = StepRecord(phase, position, text, query, list(retrieved), scratchpad, output)
    record.operations = [OperationRecord(*op) for op in ops]
    return Turn([1, 2, 3], [4, 5], [-0.1, -0.2], version, "stop", record)


def make_trajectory(
    turns, answer, gold=("Oslo",), task_id="t0", question="Where does Ada live?", kind="1-hop", index=0
):
    """An episode with one question, scored by the real metrics; it counts the operations of its turns."""
    record = AnswerRecord(question, kind, tuple(gold), answer, scores(answer, gold))
    kinds = [op.kind for turn in turns for op in turn.record.operations]
    metrics = {f"ops/{kind}": float(kinds.count(kind)) for kind in set(kinds)} | {
        "steps": float(len(turns)),
        "store/size": 2.0,
    }
    return Trajectory(task_id, index, turns, record.scores["em"], [record], metrics, seconds=1.5)


def make_episode(answer, task_id="t0", index=0, text="Ada lives in Oslo.", question="Where does Ada live?"):
    turns = [
        make_turn(text, ops=[("create", text, 1)], output=f"<create_memory>{text}</create_memory>"),
        make_turn(
            "Bob moved.", position=1, ops=[("read", "Ada", None), ("invalid", "<x>", None, "unknown tag <x>")]
        ),
        make_turn(
            question, "question", ops=[("answer", answer or "", None)], retrieved=[(1, text)], query="Ada"
        ),
    ]
    return make_trajectory(
        turns, answer, task_id=task_id, index=index, question=question, kind=f"{1 + index % 2}-hop"
    )


def evaluation_of(right: int, total: int, step: int):
    """An evaluation of one-question tasks of two kinds, the first `right` of them answered."""
    tasks = [
        Task(f"t{i}", ("text",), (Question("Where does Ada live?", ("Oslo",), f"{1 + i % 2}-hop"),))
        for i in range(total)
    ]
    return summarise(
        tasks, [make_episode("Oslo" if i < right else "Rome", f"t{i}", i) for i in range(total)], step
    )


def metric_row(step: int) -> dict[str, float]:
    names = [
        f"operations/{kind}"
        for kind in ("create", "read", "update", "delete", "scratchpad", "answer", "invalid")
    ]
    names += ["reward/mean", "em", "entropy", "grad_norm", "mismatch/mean_abs", "mismatch/kl", "invalid_rate"]
    names += ["tokens/prompt_mean", "tokens/output_per_turn", "store/size", "store/discarded"]
    times = {"time/rollout": 2.0, "time/learn": 1.0, "time/sync": 0.2, "time/total": 3.5}
    return {"step": step, "episodes": 64, **dict.fromkeys(names, 0.01 * step), **times}


@pytest.fixture
def make_run(tmp_path: Path):
    """A function that writes a run directory and returns its path."""

    def write(iterations=3, evaluations=((0, 5), (3, 18)), episodes=None, config=None) -> Path:
        run = tmp_path / "runs" / "demo"
        for folder in ("evaluations", "trajectories"):
            (run / folder).mkdir(parents=True)
        settings = {
            "name": "demo",
            "model": "models/tiny",
            "env": {"task": "registry"},
            "loop": {"iterations": 3},
        }
        (run / "config.yaml").write_text(yaml.safe_dump(settings | (config or {})))
        (run / "metrics.jsonl").write_text(
            "".join(json.dumps(metric_row(i + 1)) + "\n" for i in range(iterations))
        )
        for step, right in evaluations:
            text = json.dumps(evaluation_of(right, 20, step).to_json())
            (run / "evaluations" / f"step_{step:06d}.json").write_text(text)
        for step, trajectories in (episodes or {}).items():
            lines = "".join(json.dumps(trajectory_to_json(t)) + "\n" for t in trajectories)
            (run / "trajectories" / f"step_{step:06d}.jsonl").write_text(lines)
        return run

    return write
