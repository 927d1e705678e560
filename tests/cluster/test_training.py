"""The real loop on vLLM, DeepSpeed and Ray: a policy made here, trained, killed on the way, and resumed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from cluster.recipes import load_recipe
from cluster.rollouts import stream_of
from tests.cluster.conftest import GROUP_SIZE, TASKS_PER_BATCH, atommem, command, environment

pytestmark = pytest.mark.stack

ITERATIONS, KILLED_IN = 10, 5


def rows(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kill_in_iteration(process: subprocess.Popen[str], run: Path, iteration: int) -> None:
    """SIGKILL once the iteration before has been logged and committed."""
    while len(rows(run)) < iteration - 1:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def killed_and_resumed(workshop: Path) -> Path:
    run = workshop / "run"
    process = subprocess.Popen(
        command("train", "small.yaml"), cwd=workshop, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    kill_in_iteration(process, run, KILLED_IN)
    assert (run / "checkpoints" / "LATEST").read_text() == "step_000003"
    assert len(rows(run)) >= KILLED_IN - 1, "iteration 4 was logged and will be done again"
    refused = atommem("train", "small.yaml", cwd=workshop, check=False)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "holds another run" in refused.stderr
    assert "resuming run after iteration 3" in atommem("train", "small.yaml", "--resume", cwd=workshop).stdout
    return run


def test_no_gap_and_no_duplicate(killed_and_resumed: Path) -> None:
    table = rows(killed_and_resumed)
    assert [row["step"] for row in table] == list(range(1, ITERATIONS + 1))
    assert [row["position"] for row in table] == [TASKS_PER_BATCH * row["step"] for row in table]
    assert [row["policy_version"] for row in table] == [row["step"] for row in table]


def test_every_task_comes_once_an_epoch(killed_and_resumed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trajectories of all iterations, in the order of the stream: nothing is trained twice or skipped."""
    monkeypatch.chdir(killed_and_resumed.parent)
    stream = stream_of(load_recipe(killed_and_resumed / "config.yaml"))
    for step in range(1, ITERATIONS + 1):
        path = killed_and_resumed / "trajectories" / f"step_{step:06d}.jsonl"
        trained = [json.loads(line)["task_id"] for line in path.read_text().splitlines()]
        positions = range(TASKS_PER_BATCH * (step - 1), TASKS_PER_BATCH * step)
        expected = [stream.at(position).task_id for position in positions for _ in range(GROUP_SIZE)]
        assert sorted(trained) == sorted(expected)


def test_reward_rises(killed_and_resumed: Path) -> None:
    rewards = [row["reward/mean"] for row in rows(killed_and_resumed)]
    assert fmean(rewards[-3:]) > fmean(rewards[:2]) + 0.2, rewards


def test_engine_and_learner_agree_after_every_update(killed_and_resumed: Path) -> None:
    """Log-probabilities that the engine sampled with are the learner's: the new weights are in the engine."""
    table = rows(killed_and_resumed)
    assert max(row["mismatch/mean_abs"] for row in table) < 1e-3
    assert all(row["staleness/max"] == 0 and row["grad_norm"] > 0 for row in table)
    assert sum(row["failures/engine"] + row["failures/environment"] for row in table) == 0


def test_the_run_leaves_what_it_promises(killed_and_resumed: Path) -> None:
    run = killed_and_resumed
    evaluations = [json.loads((run / "evaluations" / f"step_{step:06d}.json").read_text()) for step in (0, ITERATIONS)]
    assert [evaluation["policy_version"] for evaluation in evaluations] == [0, ITERATIONS]
    assert [row["question"] for row in evaluations[0]["rows"]] == [row["question"] for row in evaluations[1]["rows"]]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["LATEST", "step_000009", "step_000010"]
    assert {"model.safetensors", "tokenizer.json", "config.json", "generation_config.json"} <= {
        path.name for path in (run / "checkpoints" / "step_000010").iterdir()
    }
    assert (run / "report.html").stat().st_size > 10_000 and any((run / "plots").glob("*.png"))
    assert any((run / "tensorboard").iterdir())
    assert yaml.safe_load((run / "config.yaml").read_text())["loop"]["iterations"] == ITERATIONS


def test_a_finished_run_is_not_run_again(killed_and_resumed: Path) -> None:
    before = (killed_and_resumed / "metrics.jsonl").read_bytes()
    assert "report:" in atommem("train", "small.yaml", "--resume", cwd=killed_and_resumed.parent).stdout
    assert (killed_and_resumed / "metrics.jsonl").read_bytes() == before
