"""A run whose learner, only engine and only runner are killed one after another ends as if nothing had been."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.conftest import TASKS_PER_BATCH, command, environment
from tests.cluster.test_training import rows

pytestmark = pytest.mark.stack

ITERATIONS = 8
VICTIMS = {3: "ray::LearnerWorker", 5: "VLLM::EngineCore", 6: "ray::MemoryEnvRunner"}  # by the last logged iteration


def processes(driver: psutil.Process, title: str) -> list[psutil.Process]:
    """The run's processes of one kind, wherever in its tree they are."""
    found = []
    for process in driver.children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def survived(workshop: Path) -> tuple[Path, str]:
    run, log = workshop / "survived", workshop / "survived.log"
    settings = ["run_dir=survived", f"loop.iterations={ITERATIONS}", "loop.eval_episodes=0", "loop.checkpoint_every=2"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command("train", "small.yaml", *arguments), cwd=workshop, env=environment(), stdout=output, stderr=output
        )  # fmt: skip
        for step, title in VICTIMS.items():
            while len(rows(run)) < step:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            processes(psutil.Process(process.pid), title)[0].kill()
        assert process.wait(timeout=600) == 0, log.read_text()
    return run, log.read_text()


def test_no_gap_and_no_duplicate(survived: tuple[Path, str]) -> None:
    table = rows(survived[0])
    assert [row["step"] for row in table] == list(range(1, ITERATIONS + 1))
    assert [row["position"] for row in table] == [TASKS_PER_BATCH * row["step"] for row in table]
    assert [row["policy_version"] for row in table] == [row["step"] for row in table]
    assert all(row["episodes"] == TASKS_PER_BATCH * 8 for row in table), "every unfinished episode was run again"


def test_each_death_was_seen_and_only_the_learners_cost_iterations(survived: tuple[Path, str]) -> None:
    run, log = survived
    assert log.count("the learner starts again from iteration 2") == 1
    last = rows(run)[-1]
    assert last["restarts/engines"] == 1 and last["restarts/runners"] == 1
    assert max(row["mismatch/mean_abs"] for row in rows(run)) < 1e-3, "engines sampled with the learner's weights"


def test_nothing_is_left_over(survived: tuple[Path, str]) -> None:
    workshop = str(survived[0].parent)
    assert not [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == workshop]
