"""The layout of a run (learners, engines, runners) changes who does the work, not the update that comes out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import safetensors.torch
import torch

from cluster.config import RayConfig
from cluster.recipes import load_recipe
from tests.cluster.conftest import GROUP_SIZE, TASKS_PER_BATCH

pytestmark = pytest.mark.stack

LAYOUT = ["rollout.engine.count=2", "rollout.engine.num_cpus=0.4", "rollout.runners=4", "rollout.runner_cpus=0.1"]


@pytest.fixture(scope="module")
def layout(workshop: Path) -> Iterator[tuple]:
    """2 engines and 4 runners, the run they belong to, and the groups that they sampled."""
    from cluster.rollouts import requests_for, rollout_side, stream_of
    from cluster.session import ray_session

    tasks = workshop / "tasks.parquet"
    places = [f"model={workshop / 'policy'}", f"env.data={tasks}", f"env.eval_data={tasks}"]
    run = load_recipe(workshop / "small.yaml", [*places, *LAYOUT, "learner.num_cpus=0.3"])
    positions = range(2 * TASKS_PER_BATCH)
    requests = requests_for(run, stream_of(run), positions, GROUP_SIZE, run.rollout.sampling)
    with ray_session(RayConfig(num_cpus=3)), rollout_side(run) as side:
        yield run, side, sorted(side.collector.run(requests), key=lambda group: group.group_id)


@pytest.fixture(scope="module")
def sequences(layout: tuple) -> list:
    from learner.advantages import sequences_from_groups

    run, _, groups = layout
    made = sequences_from_groups(groups, run.learner.grpo)
    assert any(value for sequence in made for value in sequence.advantages), "the groups teach something"
    return made


def learn(run, sequences, workers: int, stage: int, then=lambda learner: None):
    """Gradients and weights of one update on so many workers."""
    from learner.group import LearnerGroup

    settings = {"workers": workers, "zero_stage": stage}
    learner = LearnerGroup(run.learner.model_copy(update=settings), run.model, seed=run.seed, total_steps=1)
    try:
        gradients = learner.gradients(sequences)
        then(learner)
        buckets = map(safetensors.torch.load, ray.get(learner.weights("float32")))
        return gradients, {name: tensor for bucket in buckets for name, tensor in bucket.items()}
    finally:
        learner.shutdown()


@pytest.fixture(scope="module")
def alone(layout: tuple, sequences: list) -> tuple:
    return learn(layout[0], sequences, workers=1, stage=0)


def test_all_engines_and_runners_took_part(layout: tuple) -> None:
    run, side, groups = layout
    assert [len(group.trajectories) for group in groups] == [GROUP_SIZE] * 2 * TASKS_PER_BATCH
    assert all(t.failure is None for group in groups for t in group.trajectories)
    turns = side.runners.foreach_env_runner("get_metrics", local_env_runner=False)
    assert len(turns) == run.rollout.runners and all(metrics["turns"] > 0 for metrics in turns)
    engines = ray.get([handle.metrics.remote() for handle in side.pool.handles])
    assert len(engines) == run.rollout.engine.count and all(engine["requests"] > 0 for engine in engines)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_learners_two_engines_four_runners_give_the_update_of_one(
    layout: tuple, sequences: list, alone: tuple, stage: int
) -> None:
    from learner.weight_sync import WeightSync

    run, side, _ = layout
    gradients, weights = learn(run, sequences, 2, stage, lambda learner: WeightSync(learner, side.pool).push(stage))
    expected, single = alone
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(gradients[name], gradient, atol=1e-5, err_msg=name)
    assert max(np.abs(gradient).max() for gradient in expected.values()) > 1e-3
    for name, tensor in single.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=0)
    assert side.pool.versions() == [stage, stage], "both engines have the update"
