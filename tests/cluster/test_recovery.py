"""A run whose learner, only engine and only runner are killed one after another ends as if nothing had been."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cluster.status import read_status
from tests.cluster.conftest import ROOT, command, environment, on_request
from tests.cluster.nodes import shared_memory
from tests.cluster.test_training import rows

pytestmark = [pytest.mark.stack, on_request]

ITERATIONS, TASKS, GROUP = 6, 4, 4
VICTIMS = {  # by the last logged iteration; at 0 the run is still starting
    0: "VLLM::EngineCore", 3: "ray::LearnerWorker", 4: "VLLM::EngineCore", 5: "ray::MemoryEnvRunner",
}  # fmt: skip
SETTINGS = (
    f"loop.iterations={ITERATIONS}", "loop.eval_episodes=0", "loop.checkpoint_every=2", "loop.keep_checkpoints=9",
    f"rollout.tasks_per_batch={TASKS}", f"rollout.group_size={GROUP}",
)  # fmt: skip


@dataclass
class Survived:
    """What is left of the run."""

    run: Path
    log: str
    processes: set[psutil.Process]  # all that were seen while it ran
    shared_memory: set[str]  # what was there before


def settings(*more: str) -> list[str]:
    """The tiny recipe in small, as command-line words."""
    return [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]


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
def survived(tmp_path_factory: pytest.TempPathFactory) -> Survived:
    place = tmp_path_factory.mktemp("survived")
    run, log, seen, before = place / "run", place / "log", set[psutil.Process](), shared_memory()
    with log.open("w") as output:
        process = subprocess.Popen(
            command("train", "recipes/tiny.yaml", *settings(f"run_dir={run}")), cwd=ROOT, env=environment(),
            stdout=output, stderr=output,
        )  # fmt: skip
        try:
            for step, title in VICTIMS.items():
                while len(rows(run)) < step or not processes(psutil.Process(process.pid), title):
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.05)
                seen |= set(psutil.Process(process.pid).children(recursive=True))
                processes(psutil.Process(process.pid), title)[0].kill()
            assert process.wait(timeout=800) == 0, log.read_text()
        finally:
            process.kill()
    return Survived(run, log.read_text(), seen, before)


def test_what_dies_at_the_start_has_the_start_tried_again(survived: Survived) -> None:
    assert survived.log.count("a policy engine could not start") == survived.log.count("starting again") == 1


def test_no_gap_and_no_duplicate(survived: Survived) -> None:
    table = rows(survived.run)
    assert [row["step"] for row in table] == list(range(1, ITERATIONS + 1))
    assert [row["position"] for row in table] == [TASKS * row["step"] for row in table]
    assert [row["policy_version"] for row in table] == [row["step"] for row in table]
    assert all(row["episodes"] == TASKS * GROUP for row in table), "every unfinished episode was run again"


def test_each_death_was_seen_and_only_the_learners_cost_iterations(survived: Survived) -> None:
    assert survived.log.count("the learner starts again from iteration 2") == 1
    last = rows(survived.run)[-1]
    assert last["restarts/engines"] == 1 and last["restarts/runners"] == 1
    status = read_status(survived.run)
    assert status is not None and status.phase == "ended"
    assert [event for event in status.events if "engine-0 is back with the current weights" in event]


def test_engines_sampled_with_the_learners_weights_throughout(survived: Survived) -> None:
    assert max(row["mismatch/mean_abs"] for row in rows(survived.run)) < 1e-3


def test_nothing_is_left_over(survived: Survived) -> None:
    assert survived.processes
    _, alive = psutil.wait_procs(survived.processes, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert shared_memory() - survived.shared_memory == set()
