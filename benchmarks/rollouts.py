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
from rollout.episode import turn_seed
from rollout.pool import EnginePool
from rollout.types import GroupRequest, Trajectory

TASKS, GROUP, ROUNDS = 8, 8, 3


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


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    config = tiny()
    with engines(config) as pool:
        groups = requests(config, TASKS, GROUP)
        episodes = TASKS * GROUP
        played = play(config, pool, groups)

        def fresh() -> None:  # an update to the same weights empties the prefix cache
            pool.update_weights(config.model, 0)

        def ours() -> None:
            play(config, pool, groups)
            fresh()

        def lockstep() -> None:
            play(config, Lockstep(pool, episodes), groups)
            fresh()

        def ceiling() -> None:
            asyncio.run(straight(pool, groups, played))
            fresh()

        seconds = side_by_side(ROUNDS, ours=ours, lockstep=lockstep, ceiling=ceiling)
    speeds = {side: f"{episodes / best(values):.2f} episodes/s" for side, values in seconds.items()}
    steps = [len(trajectory.turns) for trajectory in played]
    outputs = [len(turn.output_ids) for trajectory in played for turn in trajectory.turns]
    spread = (
        f"{statistics.mean(steps):.1f} steps per episode ({min(steps)}-{max(steps)}), "
        f"{statistics.mean(outputs):.0f} output tokens per step ({min(outputs)}-{max(outputs)})"
    )
    ratios = [
        Ratio(
            "rollouts: own pace against lockstep", speeds["ours"], speeds["lockstep"],
            times(seconds, "lockstep", "ours"), 1.5, "own lockstep driver of the same engine, same seeds", spread,
        ),
        Ratio(
            "rollouts: share of the engine's ceiling", speeds["ours"], speeds["ceiling"],
            times(seconds, "ceiling", "ours"), 0.9, "the same prompts and lengths straight to the engine",
            f"{episodes} requests in flight",
        ),
    ]  # fmt: skip
    keep("rollouts", ratios, started)


if __name__ == "__main__":
    main()
