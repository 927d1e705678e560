"""A learner whose worker dies or hangs says so, and goes on exactly from a checkpoint after a restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from learner.config import LearnerConfig, OptimizerConfig
from learner.errors import LearnerError, LearnerSilent
from learner.group import LearnerGroup
from tests.learner.conftest import random_batch

pytestmark = pytest.mark.stack

CONFIG = LearnerConfig(
    workers=2, dtype="float32", zero_stage=2, num_cpus=0.5, micro_batch_tokens=150, step_timeout_s=300,
    optimizer=OptimizerConfig(lr=1e-3, warmup_steps=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def group(model_path: Path, local_ray: None) -> Iterator[LearnerGroup]:
    learner = LearnerGroup(CONFIG, str(model_path), seed=1)
    yield learner
    learner.shutdown()


def pid(group: LearnerGroup, rank: int) -> int:
    return ray.get(group.workers[rank].__ray_call__.remote(lambda worker: os.getpid()))


def test_after_a_death_the_group_goes_on_from_its_checkpoint_as_if_nothing_had_been(
    group: LearnerGroup, tmp_path: Path
) -> None:
    group.update(random_batch(6, seed=1))
    group.save(tmp_path / "kept")
    expected = [group.update(random_batch(6, seed=seed))["loss"] for seed in (2, 3)]
    before = pid(group, 0)
    os.kill(pid(group, 1), signal.SIGKILL)
    with pytest.raises(LearnerError, match="died in 'update'"):
        group.update(random_batch(6, seed=4))
    group.restart()
    assert pid(group, 0) != before, "all ranks are new: the old ones wait for the dead one"
    group.load(tmp_path / "kept")
    assert group.updates == 1
    assert [group.update(random_batch(6, seed=seed))["loss"] for seed in (2, 3)] == pytest.approx(expected, abs=1e-6)


def test_a_worker_that_hangs_is_named(group: LearnerGroup) -> None:
    ray.get(group.workers[0].alive.remote())
    os.kill(stopped := pid(group, 1), signal.SIGSTOP)
    group.config = CONFIG.model_copy(update={"step_timeout_s": 5.0})
    try:
        with pytest.raises(LearnerSilent, match=r"no answer to 'alive' from learner ranks \[1\] for 5 s"):
            group.call("alive")
    finally:
        os.kill(stopped, signal.SIGCONT)
        group.config = CONFIG


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_checkpoint_is_read_by_another_number_of_workers(
    stage: int, model_path: Path, local_ray: None, tmp_path: Path
) -> None:
    """Trained by two, gone on with by one: the next updates are those that the two make."""
    config = CONFIG.model_copy(update={"zero_stage": stage})
    two = LearnerGroup(config, str(model_path), seed=1)
    for seed in (1, 2):
        two.update(random_batch(6, seed=seed))
    two.save(tmp_path / "two")
    expected = [two.update(random_batch(6, seed=seed)) for seed in (3, 4)]
    two.shutdown()
    one = LearnerGroup(config.model_copy(update={"workers": 1}), str(model_path), seed=9)
    try:
        one.load(tmp_path / "two")
        got = [one.update(random_batch(6, seed=seed)) for seed in (3, 4)]
        for key in ("loss", "grad_norm", "lr"):
            assert [row[key] for row in got] == pytest.approx([row[key] for row in expected], rel=1e-3, abs=1e-6)
        assert one.updates == 4
        assert not list((tmp_path / "two" / "trainer").glob(".universal-*")), "the copy is gone"
    finally:
        one.shutdown()
