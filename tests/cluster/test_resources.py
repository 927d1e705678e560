from cluster.config import RunConfig
from cluster.resources import demand_of, shortage


def run(**rollout: object) -> RunConfig:
    learner = {"workers": 2, "num_cpus": 0.4}
    return RunConfig.model_validate({"name": "r", "model": "m", "rollout": rollout, "learner": learner})


def test_what_fits_exactly_fits() -> None:
    small = run(runners=3, runner_cpus=0.1, engine={"count": 1, "num_cpus": 0.9})
    assert shortage(demand_of(small, with_learner=True), {"CPU": 2.0}) is None
    assert shortage(demand_of(small, with_learner=True), {"CPU": 1.9}) is not None
    assert shortage(demand_of(small, with_learner=False), {"CPU": 1.2}) is None


def test_what_was_asked_and_what_there_is_in_one_line() -> None:
    large = run(runners=1, runner_cpus=0.5, engine={"count": 4, "num_cpus": 1, "num_gpus": 1})
    assert shortage(demand_of(large, with_learner=True), {"CPU": 2.0}) == (
        "the run asks for 5.3 CPU and 4 GPU (rollout.engine.count = 4 of 1 CPU and 1 GPU, "
        "rollout.runners = 1 of 0.5 CPU and 0 GPU, learner.workers = 2 of 0.4 CPU and 0 GPU); "
        "the cluster has 2 CPU and 0 GPU"
    )
