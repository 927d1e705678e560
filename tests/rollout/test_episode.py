"""One episode: what becomes of turns, seeds and failures."""

from __future__ import annotations

import asyncio

import pytest

from env.errors import EmbeddingError, JudgeError, TaskError
from rollout.episode import Environment, run_episode, turn_seed
from rollout.errors import EngineError, PromptTooLongError
from rollout.types import GroupRequest, Trajectory
from tests.rollout.policies import CountingEnv, DigitTokenizer, RandomPolicy, make_request


def play(env: Environment | None = None, policy: RandomPolicy | None = None, index: int = 0) -> Trajectory:
    episode = run_episode(
        lambda request: env or CountingEnv(),
        policy or RandomPolicy(),
        DigitTokenizer(),
        make_request(),
        index,
    )
    return asyncio.run(episode)


def test_every_step_becomes_a_turn_with_the_sampled_ids() -> None:
    trajectory = play(policy=RandomPolicy(version=5))
    assert trajectory.failure is None
    assert [turn.record.text for turn in trajectory.turns] == ["t0 unit 0", "t0 unit 1", "t0 unit 2"]
    for turn in trajectory.turns:
        assert turn.record.output == "".join(str(token) for token in turn.output_ids)
        assert turn.prompt_ids == [ord(letter) % 10 for letter in turn.record.text]
        assert len(turn.logprobs) == len(turn.output_ids)
        assert turn.policy_version == 5
    said = [token for turn in trajectory.turns for token in turn.output_ids]
    assert trajectory.reward == sum(token % 2 == 0 for token in said) / len(said)
    assert trajectory.metrics == {"steps": 3.0}
    assert trajectory.answers[0].question == "which?"


def test_same_request_gives_same_episode_and_another_index_another_one() -> None:
    ids = [[turn.output_ids for turn in play(index=index).turns] for index in (0, 0, 1)]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_turn_seeds_differ_in_every_part_and_fit_in_31_bits() -> None:
    requests = [make_request(group_id, seed=seed) for group_id in range(5) for seed in range(5)]
    seeds = [
        turn_seed(request, index, turn) for request in requests for index in range(5) for turn in range(5)
    ]
    assert len(set(seeds)) == 625
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("error", "boundary"),
    [
        (EngineError("no engine"), "engine"),
        (TaskError("no question"), "task"),
        (JudgeError("silent"), "judge"),
        (EmbeddingError("no vector"), "environment"),
        (PromptTooLongError("9 tokens"), "environment"),
        (KeyError("a bug"), "environment"),
    ],
)
def test_a_failure_keeps_the_turns_so_far_and_names_its_boundary(error: Exception, boundary: str) -> None:
    class Failing(CountingEnv):
        async def step(self, text: str, tokens: int = 0):  # type: ignore[no-untyped-def]
            if len(self.texts) == 1:
                raise error
            return await super().step(text, tokens)

    trajectory = play(Failing())
    assert trajectory.failure is not None
    assert trajectory.failure.boundary == boundary
    assert type(error).__name__ in trajectory.failure.message
    assert len(trajectory.turns) == 1
    assert trajectory.reward == 0.0


def test_an_environment_that_cannot_be_made_is_a_failure_too() -> None:
    def refuse(request: GroupRequest) -> Environment:
        raise ValueError("no room")

    trajectory = asyncio.run(run_episode(refuse, RandomPolicy(), DigitTokenizer(), make_request(), 0))
    assert trajectory.failure is not None
    assert trajectory.failure.message == "ValueError: no room"
