"""Episodes per second, each at its own pace, against the same engine driven in lockstep, and against its ceiling.

Both play the same episodes of the tiny recipe with the same seeds, so that they sample the same tokens. The ceiling
sends the prompts of these episodes straight to the engine, as many at a time as there are episodes, none waiting for
an environment.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from benchmarks.engines import Lockstep, engines, play, requests, tiny
from benchmarks.results import Ratio, best, keep, side_by_side, times
from benchmarks.scribe import SCALED, Scribe, untrained
from cluster.config import RunConfig
from env.tokenizer import ChatTokenizer
from rollout.episode import turn_seed
from rollout.pool import EnginePool
from rollout.types import GroupRequest, Trajectory


async def straight(pool: EnginePool, groups: list[GroupRequest], trajectories: list[Trajectory]) -> None:
    """All turns of all episodes, each with as many output tokens as it had."""
    places = asyncio.Semaphore(len(trajectories))

    async def one(request: GroupRequest, trajectory: Trajectory, number: int) -> None:
        turn = trajectory.turns[number]
        sampling = request.sampling.model_copy(update={"max_new_tokens": len(turn.output_ids)})
        async with places:
            seed = turn_seed(request, trajectory.index, number)
            await pool.generate(turn.prompt_ids, sampling, request.group_id, seed)

    owners = [request for request in groups for _ in range(request.group_size)]
    await asyncio.gather(
        *(
            one(request, trajectory, number)
            for request, trajectory in zip(owners, trajectories, strict=True)
            for number in range(len(trajectory.turns))
        )
    )


class Sides:
    """The same episodes, played in three ways; every one leaves an empty prefix cache."""

    def __init__(self, config: RunConfig, pool: EnginePool, tasks: int, group: int) -> None:
        self._config, self._pool = config, pool
        self._groups, self.episodes = requests(config, tasks, group), tasks * group
        self.played = play(config, pool, self._groups)

    def ours(self) -> None:
        """Each at its own pace."""
        play(self._config, self._pool, self._groups)
        self._fresh()

    def lockstep(self) -> None:
        """A step of all, then the next."""
        play(self._config, Lockstep(self._pool, self.episodes), self._groups)
        self._fresh()

    def ceiling(self) -> None:
        """No environment."""
        asyncio.run(straight(self._pool, self._groups, self.played))
        self._fresh()

    def _fresh(self) -> None:
        self._pool.update_weights(self._config.model, 0)  # to the same weights

    def share(self, what: str, seconds: dict[str, list[float]]) -> Ratio:
        """Ours over the ceiling."""
        speeds = {side: f"{self.episodes / best(values):.2f} episodes/s" for side, values in seconds.items()}
        return Ratio(
            f"rollouts: share of the engine's ceiling, {what}", speeds["ours"], speeds["ceiling"],
            times(seconds, "ceiling", "ours"), 0.9, "the same prompts and lengths straight to the engine",
            f"{self.episodes} requests in flight",
        )  # fmt: skip


def spread(played: list[Trajectory]) -> str:
    """How much episodes differ."""
    steps = [len(trajectory.turns) for trajectory in played]
    outputs = [len(turn.output_ids) for trajectory in played for turn in trajectory.turns]
    return (
        f"{statistics.mean(steps):.1f} steps per episode ({min(steps)}-{max(steps)}), "
        f"{statistics.mean(outputs):.0f} output tokens per step ({min(outputs)}-{max(outputs)})"
    )


def of_the_tiny_policy() -> list[Ratio]:
    """Against lockstep, and against the ceiling."""
    config = tiny()
    with engines(config) as pool:
        sides = Sides(config, pool, 8, 8)
        seconds = side_by_side(3, ours=sides.ours, lockstep=sides.lockstep, ceiling=sides.ceiling)
    speeds = {side: f"{sides.episodes / best(values):.2f} episodes/s" for side, values in seconds.items()}
    pace = Ratio(
        "rollouts: own pace against lockstep", speeds["ours"], speeds["lockstep"], times(seconds, "lockstep", "ours"),
        1.5, "own lockstep driver of the same engine, same seeds", spread(sides.played),
    )  # fmt: skip
    return [pace, sides.share("tiny policy", seconds)]


def of_long_and_short_episodes() -> Ratio:
    """Against lockstep where episodes ask one to ten questions, as those on HotpotQA's haystacks do (whose lengths in
    tokens differ by 4% only). Chunks, questions and outputs in the paper's proportions."""
    with untrained() as model:
        config = tiny(f"model={model}", *SCALED, "env.registry.questions_max=10")
        groups = requests(config, 8, 8)
        tokenizer, episodes = ChatTokenizer(model), sum(request.group_size for request in groups)
        with engines(config) as pool:
            played = play(config, Scribe(pool, tokenizer), groups)

            def ours() -> None:
                play(config, Scribe(pool, tokenizer), groups)
                pool.update_weights(model, 0)  # an empty prefix cache again

            def lockstep() -> None:
                play(config, Scribe(Lockstep(pool, episodes), tokenizer), groups)
                pool.update_weights(model, 0)

            seconds = side_by_side(2, ours=ours, lockstep=lockstep)
    speeds = {side: f"{episodes / best(values):.2f} episodes/s" for side, values in seconds.items()}
    return Ratio(
        "rollouts: own pace against lockstep, 1 to 10 questions", speeds["ours"], speeds["lockstep"],
        times(seconds, "lockstep", "ours"), 1.5, "own lockstep driver of the same engine, same seeds", spread(played),
    )  # fmt: skip


def of_a_larger_model() -> Ratio:
    """The ceiling where a step costs the engine more: what the environment takes hides behind it."""
    with untrained(576, 30, 9) as model:
        config = tiny(f"model={model}", "rollout.sampling.max_new_tokens=24")
        with engines(config) as pool:
            sides = Sides(config, pool, 2, 8)
            seconds = side_by_side(2, ours=sides.ours, ceiling=sides.ceiling)
    return sides.share("random weights of SmolLM2-135M's shape", seconds)


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    keep("rollouts", [*of_the_tiny_policy(), of_long_and_short_episodes(), of_a_larger_model()], started)


if __name__ == "__main__":
    main()
