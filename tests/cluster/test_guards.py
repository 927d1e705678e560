"""Skipped updates, poisoned tasks, a full disk."""

import errno
from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.guards import SkippedUpdates, disk_room, poisoned
from cluster.rundir import RunDir
from env.errors import UserError
from rollout.types import Failure, Group, Trajectory


def test_updates_skipped_in_a_row_stop_the_run() -> None:
    skipped = SkippedUpdates(limit=3)
    for value in (1, 1, 0, 1, 1):
        skipped.note(value)
    with pytest.raises(UserError, match=r"3 iterations in a row .* not finite .*start anew"):
        skipped.note(2)


def test_a_task_that_failed_whenever_it_was_tried_is_named() -> None:
    failure = Failure("task", "no text")
    bad = Group(1, "bad", [Trajectory("bad", 0, turns=[], failure=failure)])
    assert poisoned([bad, Group(2, "good", [Trajectory("good", 0, turns=[])])]) == ["bad"]


def test_a_full_disk_is_one_sentence_and_what_was_there_stays(tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    run = RunDir.create(RunConfig.model_validate({"name": "r", "model": "m", "run_dir": str(tmp_path / "r")}))
    run.metrics.symlink_to("/dev/full")
    sentence = r"the disk of .*/r is full \(\d+ MiB free\): make room.*--resume"
    with pytest.raises(UserError, match=sentence), disk_room(run.path):
        run.append_metrics({"step": 1})
    assert run.config.is_file()


def test_a_full_disk_that_a_worker_met_is_the_same() -> None:
    from ray.exceptions import RayTaskError

    cause = OSError(errno.ENOSPC, "No space left on device")
    for error in (RayTaskError("save", "trace", cause), RuntimeError("write failed: No space left on device")):
        with pytest.raises(UserError, match="is full"), disk_room(Path("/nowhere/else")):
            raise error


def test_other_errors_pass() -> None:
    with pytest.raises(PermissionError), disk_room(Path(".")):
        raise PermissionError(errno.EACCES, "no")
