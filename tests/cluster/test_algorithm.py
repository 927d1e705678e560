"""GRPO as RLlib and Tune see it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import RayConfig
from cluster.recipes import load_recipe
from tests.cluster.conftest import TASKS_PER_BATCH

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    from cluster.session import ray_session

    with ray_session(RayConfig(num_cpus=2)):
        yield


def test_a_tune_trial_checkpoints_and_an_algorithm_goes_on_from_there(workshop: Path, ray_here: None) -> None:
    from ray import tune

    from cluster.algorithm import GRPO, RESULTS, GRPOConfig
    from cluster.loop import LoopState

    tasks = workshop / "tasks.parquet"
    places = [f"model={workshop / 'policy'}", f"env.data={tasks}", f"env.eval_data={tasks}"]
    run = load_recipe(workshop / "small.yaml", [*places, "rollout.max_staleness=1"])
    tuner = tune.Tuner(
        GRPO,
        param_space=GRPOConfig().run(run),
        run_config=tune.RunConfig(
            storage_path=str(workshop / "tune"),
            stop={"training_iteration": 1},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            verbose=0,
        ),
    )
    trial = tuner.fit()[0]
    assert trial.error is None and trial.metrics is not None and trial.checkpoint is not None
    assert trial.metrics[RESULTS]["step"] == 1 and trial.metrics[RESULTS]["episodes"] > 0

    algo = GRPO.from_checkpoint(trial.checkpoint.path)
    try:
        assert algo.loop == LoopState(step=1, position=TASKS_PER_BATCH, policy_version=1)
        assert algo.rollout_side.pool.versions() == [1], "the engine has the checkpoint's weights"
        first, second = algo.train()[RESULTS], algo.train()[RESULTS]
        for row, step in ((first, 2), (second, 3)):
            assert (row["step"], row["position"], row["policy_version"]) == (step, step * TASKS_PER_BATCH, step)
        assert first["mismatch/mean_abs"] < 1e-3 and first["staleness/max"] == 0
        assert second["staleness/max"] == 1, "it was sampled while the first one was learned from"
        assert algo.rollout_side.pool.versions() == [3]
    finally:
        algo.stop()
