"""Which actors find a node, by hand."""

from cluster.config import RunConfig
from cluster.elastic import room_for_runners
from cluster.placement import Bundle, bundles_of, described, listed, unplaced


def run(learner: dict[str, object] | None = None, **rollout: object) -> RunConfig:
    learner = {"workers": 2, "num_cpus": 0.4, **(learner or {})}
    return RunConfig.model_validate({"name": "r", "model": "m", "rollout": rollout, "learner": learner})


def test_what_fits_exactly_fits() -> None:
    small = run(runners=3, runner_cpus=0.1, engine={"count": 1, "num_cpus": 0.9})
    assert unplaced(bundles_of(small, with_learner=True), {"a": {"CPU": 2.0}}) == []
    assert unplaced(bundles_of(small, with_learner=True), {"a": {"CPU": 1.9}}) == [Bundle("rollout.runners", 0.1, 0.0)]
    assert unplaced(bundles_of(small, with_learner=False), {"a": {"CPU": 1.2}}) == []


def test_an_actor_goes_to_one_node_and_not_to_halves_of_two() -> None:
    engine = Bundle("rollout.engine", 2.0, 4.0)
    assert unplaced([engine], {"a": {"CPU": 8, "GPU": 2}, "b": {"CPU": 8, "GPU": 2}}) == [engine]
    assert unplaced([engine] * 2, {"a": {"CPU": 8, "GPU": 4}, "b": {"CPU": 8, "GPU": 4}}) == []


def test_small_actors_leave_gpu_nodes_to_large_ones() -> None:
    bundles = [Bundle("rollout.runners", 4.0, 0.0), Bundle("rollout.engine", 4.0, 1.0)]
    assert unplaced(bundles, {"gpu": {"CPU": 4, "GPU": 1}, "cpu": {"CPU": 4}}) == []


def test_a_colocated_pair_is_one_bundle() -> None:
    pairs = run(
        learner={"workers": 2, "num_cpus": 1, "num_gpus": 0.5},
        runner_cpus=1, engine={"count": 2, "num_cpus": 1, "num_gpus": 0.5, "colocate": True},
    )  # fmt: skip
    assert listed(bundles_of(pairs, with_learner=True)) == (
        "2 x 2 CPU and 1 GPU (rollout.engine + learner.workers), 1 x 1 CPU and 0 GPU (rollout.runners)"
    )


def test_each_bundle_and_each_node_is_named() -> None:
    large = run(runners=1, runner_cpus=0.5, engine={"count": 4, "num_cpus": 1, "num_gpus": 1})
    nodes = {"10.0.0.1": {"CPU": 8.0, "GPU": 3.0}, "10.0.0.2": {"CPU": 2.0}}
    assert listed(unplaced(bundles_of(large, with_learner=True), nodes)) == "1 x 1 CPU and 1 GPU (rollout.engine)"
    assert described(nodes) == "node 10.0.0.1: 8 CPU and 3 GPU; node 10.0.0.2: 2 CPU and 0 GPU"


def test_runners_join_as_far_as_nodes_and_the_recipe_allow() -> None:
    elastic = run(runners=2, max_runners=6, runner_cpus=0.5, engine={"count": 1})
    assert room_for_runners(elastic, 2, {"a": {"CPU": 0.4}, "b": {"CPU": 1.0}}) == 2, "0.4 of a CPU holds none"
    assert room_for_runners(elastic, 2, {"a": {"CPU": 64.0}}) == 4, "that makes six"
    assert room_for_runners(elastic, 6, {"a": {"CPU": 64.0}}) == 0
    assert room_for_runners(run(runners=2, runner_cpus=0.5), 2, {"a": {"CPU": 64.0}}) == 0, "without max_runners none"
