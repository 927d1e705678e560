"""The collector over RLlib's EnvRunnerGroup with memory environments: runners that die, fail and hang."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from env.config import EnvConfig
from env.types import Question, Task
from rollout.collector import GroupCollector
from rollout.config import EngineConfig, RolloutConfig, SamplingConfig
from rollout.errors import EngineError, RolloutError
from rollout.runner import MemoryEnvRunner, max_prompt_tokens
from rollout.types import Completion, Group, GroupRequest

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("local_ray")]

SAMPLING = SamplingConfig(max_new_tokens=16)
ROLLOUT = RolloutConfig(
    runners=2, episodes_per_runner=8, sampling=SAMPLING, engine=EngineConfig(max_model_len=2048), attempts=3
)
ENV = EnvConfig(prompt="compact", chunk_tokens=16, max_reads=1)
HANG, FAIL, BREAK = 1_000, 2_000, 3_000  # group ids that the policy below treats specially


class ScriptedPolicy:
    """Says a word that the seed decides; some group ids hang or fail."""

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingConfig, affinity: int, seed: int | None = None
    ) -> Completion:
        if affinity >= BREAK:
            os._exit(1)
        if affinity >= FAIL:
            raise EngineError("no engine left")
        await asyncio.sleep(3600 if affinity >= HANG else 0.01)
        return Completion([6 + (seed or 0) % 90, 1], [-0.5, -0.1], 0, "stop")


@pytest.fixture(scope="module")
def runners(local_ray: None, tiny_model: Path) -> Iterator[EnvRunnerGroup]:
    config = AlgorithmConfig().environment(
        env_config={
            "env": ENV.model_dump(),
            "rollout": ROLLOUT.model_dump(),
            "tokenizer": str(tiny_model),
            "pool": ScriptedPolicy(),
        }
    )
    config.env_runners(
        env_runner_cls=MemoryEnvRunner,
        num_env_runners=2,
        num_cpus_per_env_runner=0.5,
        create_local_env_runner=False,
    )
    config.fault_tolerance(restart_failed_env_runners=True, delay_between_env_runner_restarts_s=0.0)
    config.freeze()
    group = EnvRunnerGroup(config=config, local_env_runner=False)
    yield group
    group.stop()


def make_requests(count: int, first: int = 0, size: int = 2, units: int = 4) -> list[GroupRequest]:
    units_of = tuple(f"w{unit} w{unit + 1} w{unit + 2} w{unit + 3}" for unit in range(units))
    return [
        GroupRequest(i, Task(f"task{i}", units_of, (Question("w1 ?", ("w2",)),)), size, SAMPLING, seed=3)
        for i in range(first, first + count)
    ]


def ids_of(groups: Sequence[Group]) -> dict[int, list[list[list[int]]]]:
    return {
        group.group_id: [[turn.output_ids for turn in trajectory.turns] for trajectory in group.trajectories]
        for group in groups
    }


def test_every_group_comes_back_once_and_the_same_again(runners: EnvRunnerGroup) -> None:
    collector = GroupCollector(runners, ROLLOUT)
    groups = list(collector.run(make_requests(12)))
    assert sorted(group.group_id for group in groups) == list(range(12))
    for group in groups:
        assert [trajectory.failure for trajectory in group.trajectories] == [None, None]
        assert all(trajectory.turns and trajectory.answers for trajectory in group.trajectories)
    assert ids_of(list(collector.run(make_requests(12)))) == ids_of(groups)


def test_groups_of_a_killed_runner_run_again_elsewhere(runners: EnvRunnerGroup) -> None:
    expected = ids_of(list(GroupCollector(runners, ROLLOUT).run(make_requests(30, units=40))))
    running = GroupCollector(runners, ROLLOUT).run(make_requests(30, units=40))
    groups = [next(running)]
    runners.foreach_env_runner(
        lambda runner: __import__("os")._exit(1), remote_worker_ids=[1], local_env_runner=False
    )
    groups += list(running)
    assert ids_of(groups) == expected
    assert len(groups) == 30


def test_a_restarted_runner_takes_part_again(runners: EnvRunnerGroup) -> None:
    deadline = time.monotonic() + 60
    while len(runners.healthy_env_runner_ids()) < 2 and time.monotonic() < deadline:
        runners.probe_unhealthy_env_runners(timeout_seconds=2.0)
    assert runners.healthy_env_runner_ids() == [1, 2]
    assert runners.num_remote_worker_restarts() == 1
    assert len(list(GroupCollector(runners, ROLLOUT).run(make_requests(8)))) == 8


def test_too_many_failures_stop_the_run_and_name_the_boundary(runners: EnvRunnerGroup) -> None:
    collector = GroupCollector(runners, ROLLOUT)
    few = list(collector.run(make_requests(3) + make_requests(1, first=FAIL)))
    failures = [t.failure for group in few for t in group.trajectories if t.failure]
    assert {(failure.boundary, failure.message) for failure in failures} == {
        ("engine", "EngineError: no engine left")
    }
    with pytest.raises(RolloutError, match="engine boundary.*EngineError: no engine left"):
        list(collector.run(make_requests(1) + make_requests(3, first=FAIL)))


def test_an_episode_that_hangs_ends_in_a_clear_error_and_the_next_run_is_clean(
    runners: EnvRunnerGroup,
) -> None:
    with pytest.raises(RolloutError, match=r"no turn and no group for 3 s: 2 of 3 groups are done, 2 of 2"):
        list(
            GroupCollector(runners, ROLLOUT, stall_timeout_s=3).run(make_requests(2) + make_requests(1, HANG))
        )
    again = list(GroupCollector(runners, ROLLOUT, stall_timeout_s=30).run(make_requests(2)))
    assert sorted(group.group_id for group in again) == [0, 1]


def test_closing_the_iterator_cancels_the_rest(runners: EnvRunnerGroup) -> None:
    running = GroupCollector(runners, ROLLOUT).run(make_requests(1) + make_requests(1, HANG))
    assert next(running).group_id == 0
    running.close()
    pending = runners.foreach_env_runner(lambda r: r.advance((), 0.0).pending, local_env_runner=False)
    assert pending == [set(), set()]


def test_a_task_that_breaks_its_runner_every_time_is_given_up_and_no_other_is_blamed(
    runners: EnvRunnerGroup,
) -> None:
    before = runners.num_remote_worker_restarts()
    groups = list(GroupCollector(runners, ROLLOUT).run(make_requests(6) + make_requests(1, first=BREAK)))
    failed = {group.group_id: {t.failure.message for t in group.trajectories if t.failure} for group in groups}
    assert failed.pop(BREAK) == {"the environment runner was lost 3 times while it played this task"}
    assert failed == {group_id: set() for group_id in range(6)}
    deadline = time.monotonic() + 60
    while len(runners.healthy_env_runner_ids()) < 2 and time.monotonic() < deadline:
        runners.probe_unhealthy_env_runners(timeout_seconds=2.0)
    assert runners.num_remote_worker_restarts() == before + 3


def test_a_turn_needs_room_in_the_window() -> None:
    assert max_prompt_tokens(2048, 16) == 2032
    with pytest.raises(RolloutError, match=r"max_new_tokens = 64 leaves no room .*max_model_len = 64"):
        max_prompt_tokens(64, 64)
