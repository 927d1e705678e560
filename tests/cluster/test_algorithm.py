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

    from cluster.algorithm import GRPO, RESULTS, GRPOConfig, LoopState

    tasks = workshop / "tasks.parquet"
    places = [f"model={workshop / 'policy'}", f"env.data={tasks}", f"env.eval_data={tasks}"]
    run = load_recipe(workshop / "small.yaml", places)
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
        row = algo.train()[RESULTS]
        assert (row["step"], row["position"], row["policy_version"]) == (2, 2 * TASKS_PER_BATCH, 2)
        assert row["mismatch/mean_abs"] < 1e-3
        assert algo.rollout_side.pool.versions() == [2]
    finally:
        algo.stop()
