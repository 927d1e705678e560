"""A small policy that plays a few registry tasks badly, made the way a user makes one: build, collect, sft."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
on_request = pytest.mark.skipif(not os.environ.get("ATOMMEM_CLUSTER_TESTS"), reason="takes minutes: make test-cluster")
TASKS, TASKS_PER_BATCH, GROUP_SIZE = 6, 4, 8


def atommem(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    done = subprocess.run(command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cluster.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="package")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe `small.yaml`, the policy it starts from, and its few tasks; `run/` is free."""
    from cluster.tiny_model import build

    folder = tmp_path_factory.mktemp("workshop")
    build(folder / "start", hidden=128, layers=2, heads=4)
    recipe = folder / "small.yaml"
    recipe.write_text(
        f"""
base: {ROOT / "recipes" / "tiny.yaml"}
name: small
model: policy
run_dir: run
env:
  task: parquet
  data: tasks.parquet
  eval_data: tasks.parquet
  registry: {{people: 3, companies: 2, hops: [1], questions_max: 1, change_rate: 0, distractor_rate: 0}}
  teacher: {{attend: 0.8, store: 0.5, store_asked: 0.5, idle_read: 0.1, note: 0}}
rollout: {{tasks_per_batch: {TASKS_PER_BATCH}, group_size: {GROUP_SIZE}}}
learner: {{optimizer: {{lr: 5.0e-4, warmup_steps: 0}}}}
sft: {{data: turns.parquet, epochs: 12, optimizer: {{lr: 2.0e-3, warmup_steps: 10}}}}
loop: {{iterations: 10, eval_episodes: {TASKS}, checkpoint_every: 3, keep_checkpoints: 2, save_trajectories: 100}}
""",
        encoding="utf-8",
    )
    world = ["--set", "env.task=registry"]
    atommem("data", "build", recipe, *world, "--tasks", TASKS, "--out", "tasks.parquet", cwd=folder)
    atommem("collect", recipe, "--set", "model=start", "--episodes", 300, "--out", "turns.parquet", cwd=folder)
    atommem("sft", recipe, "--set", "model=start", "--out", "policy", cwd=folder)
    return folder
