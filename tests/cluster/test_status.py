"""What a run writes of itself, and what `atommem status` makes of it."""

import json
import time
from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.rundir import RunDir
from cluster.status import Heartbeat, read_status
from cluster.status_view import show_status
from env.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(RunConfig.model_validate({"name": "r", "model": "m", "run_dir": str(tmp_path / "r")}))


def test_the_status_follows_the_run(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    with Heartbeat(run, iterations=7) as heart:
        heart.alive, heart.events = lambda: {"engines": "1 of 2"}, lambda: ["a is being restarted: silent"]
        heart.enter("learn", 3)
        heart.finished({"reward/mean": 0.5, "other": 1.0})
        heart.beat()
        show_status(run.path, stacks=False)
    said = capsys.readouterr().out
    for part in ("learn for", "iteration 3 of 7", "engines 1 of 2", "reward/mean 0.5", "a is being restarted: silent"):
        assert part in said
    ended = read_status(run.path)
    assert ended is not None and ended.phase == "ended" and not ended.is_stale


def test_a_run_that_stops_says_why(run: RunDir) -> None:
    with pytest.raises(UserError), Heartbeat(run, iterations=7):
        raise UserError("the disk is full")
    status = read_status(run.path)
    assert status is not None and status.phase == "stopped: the disk is full"


def test_a_silent_run_is_told_from_a_living_one(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    with Heartbeat(run, iterations=7):
        pass
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "phase": "learn", "beat": time.time() - 100}))
    show_status(run.path, stacks=False)
    assert "no sign of life for 100 s" in capsys.readouterr().out
    with pytest.raises(UserError, match="its process is gone"):
        show_status(run.path, stacks=True)


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run that has started"):
        show_status(tmp_path / "nothing", stacks=False)
