"""The run around the loop when the learner is lost: where it goes back to, what it takes back, when it gives up."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from cluster.algorithm import RESULTS
from cluster.config import RunConfig
from cluster.console import SHOWN_OPERATIONS
from cluster.interruption import Interruption
from cluster.loop import LoopState
from cluster.rundir import RunDir, step_of
from cluster.status import Heartbeat
from cluster.train import TrainingRun
from env.errors import UserError
from learner.errors import LearnerError

ITERATIONS = 7


class ScriptedLoop:
    """An iteration takes no time; the learner is lost whenever the script says so."""

    def __init__(self, lost: Callable[[int, int], bool], lost_writing: Collection[int] = ()) -> None:
        self._lost, self._lost_writing, self._calls = lost, list(lost_writing), 0
        self.loop, self.sampled, self.events = LoopState(), [], list[str]()
        self.restarts: list[str] = []
        self.notice = range(0)  # iterations at whose end a node has been told to leave
        self._saving: Callable[[], object] | None = None

    def train(self) -> dict[str, Any]:
        self._calls += 1
        self.finish_save()
        if self._lost(self._calls, self.loop.step + 1):
            raise LearnerError("learner rank 1 died in 'update'")
        self.loop = LoopState(step=self.loop.step + 1)
        row = {f"operations/{kind}": 0.0 for kind in SHOWN_OPERATIONS}
        row["time/checkpoint"] = 0.0
        row |= {"step": self.loop.step, "reward/mean": 0.5, "em": 0.5, "invalid_rate": 0.0, "call": self._calls}
        return {RESULTS: {**row, "speed/output_tokens_per_s": 1.0}}

    def begin_save(self, path: Path, then: Callable[[], object]) -> None:
        path.mkdir()
        (path / "model.safetensors").write_text(str(self.loop.step))
        self._saving = then

    def finish_save(self) -> None:
        then, self._saving = self._saving, None
        if then is None:
            return
        if self.loop.step in self._lost_writing:
            self._lost_writing.remove(self.loop.step)
            raise LearnerError("learner rank 0 died in 'save'")
        then()

    def restart_learner(self) -> None:
        self._saving = None
        self.restarts.append("restarted")

    def begin_again(self) -> None:
        self.restarts.append("from the start")
        self.loop = LoopState()

    def restore_from_path(self, path: Path) -> None:
        self.restarts.append(f"from {path.name}")
        self.loop = LoopState(step=step_of(path))

    def leaving(self) -> dict[str, str]:
        return {"n1": "at 12:00:00"} if self.loop.step in self.notice else {}

    def alive(self) -> dict[str, str]:
        return {}


def play(
    place: Path, lost: Callable[[int, int], bool], lost_writing: Collection[int] = (), notice: range = range(0)
) -> tuple[ScriptedLoop, list[dict[str, Any]], RunDir]:
    """A whole run over the scripted loop: the loop, the rows it left, and its directory."""
    config = RunConfig.model_validate(
        {
            "name": "r", "model": "m", "run_dir": str(place / "r"), "learner": {"max_restarts": 2},
            "loop": {"iterations": ITERATIONS, "checkpoint_every": 3},
            "tracking": {"tensorboard": False, "prometheus": False},
        }
    )  # fmt: skip
    run, loop = RunDir.create(config), ScriptedLoop(lost, lost_writing)
    loop.notice = notice
    TrainingRun(config, run, loop, None, Heartbeat(run, ITERATIONS)).go(Interruption())  # type: ignore[arg-type]
    return loop, [json.loads(line) for line in run.metrics.read_text().splitlines()], run


def test_iterations_since_the_checkpoint_are_made_again_and_leave_no_duplicate(tmp_path: Path) -> None:
    loop, rows, run = play(tmp_path, lost=lambda call, step: call == 6)  # in iteration 6, after 4 and 5
    assert loop.restarts == ["restarted", "from step_000003"]
    assert [row["step"] for row in rows] == list(range(1, ITERATIONS + 1))
    assert [row["call"] for row in rows] == [1, 2, 3, 7, 8, 9, 10], "4 and 5 are those that were made again"
    assert run.latest() == run.checkpoint(ITERATIONS)
    assert loop.events == ["learner rank 1 died in 'update'; the learner starts again from iteration 3"]


@pytest.mark.parametrize(("step", "back_to"), [(6, "from step_000003"), (ITERATIONS, "from step_000006")])
def test_a_checkpoint_whose_learner_is_lost_while_it_writes_is_none(tmp_path: Path, step: int, back_to: str) -> None:
    loop, rows, run = play(tmp_path, lost=lambda call, step: False, lost_writing=[step])
    assert loop.restarts == ["restarted", back_to]
    assert [row["step"] for row in rows] == list(range(1, ITERATIONS + 1))
    assert run.latest() == run.checkpoint(ITERATIONS)


def test_before_the_first_checkpoint_the_run_begins_again(tmp_path: Path) -> None:
    loop, rows, _ = play(tmp_path, lost=lambda call, step: call == 2)
    assert loop.restarts == ["restarted", "from the start"]
    assert [row["call"] for row in rows] == [3, 4, 5, 6, 7, 8, 9]


def test_a_learner_that_is_lost_again_and_again_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lost 3 times after iteration 3 \(learner.max_restarts = 2\).*rank 1 died"):
        play(tmp_path, lost=lambda call, step: step == 5)


def test_a_checkpoint_in_between_counts_from_anew(tmp_path: Path) -> None:
    _, rows, _ = play(tmp_path, lost=lambda call, step: call in (2, 4, 9, 12))
    assert [row["step"] for row in rows] == list(range(1, ITERATIONS + 1))


def test_while_a_node_is_about_to_leave_every_iteration_ends_with_a_checkpoint(tmp_path: Path) -> None:
    loop, rows, _ = play(tmp_path, lost=lambda call, step: call == 6, notice=range(4, 6))
    assert loop.restarts == ["restarted", "from step_000005"], "without the notice it would be 3"
    assert [row["step"] for row in rows] == list(range(1, ITERATIONS + 1))
    assert loop.events[0] == "node n1 leaves at 12:00:00: a checkpoint after every iteration until then"
    assert len(loop.events) == 2, "told once"
