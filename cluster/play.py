"""Episodes without learning: kept as turns for supervised fine-tuning, or shown step by step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cluster.collect import CollectedTurns, collect_from_groups, collect_from_teacher
from cluster.config import RunConfig
from cluster.console import console, print_episode, working
from cluster.rollouts import requests_for, rollout_side, stream_of
from rollout.types import Group

REPORT_EVERY = 500  # episodes


def collect_turns(config: RunConfig, episodes: int, out: Path, with_policy: bool) -> None:
    """Play training tasks with the recipe's model, or with the scripted teacher, and write the turns to `out`."""
    if with_policy:
        counts = collect_from_groups(_groups(config, episodes), out, _report)
    else:
        counts = collect_from_teacher(config, episodes, out, _report)
    console.print(f"{out}: {_counts(counts)}")


def show_episodes(config: RunConfig, episodes: int) -> None:
    """Play training tasks once each; print the first episode step by step, and a line about all."""
    groups = sorted(_groups(config, episodes), key=lambda group: group.group_id)
    print_episode(groups[0].trajectories[0])
    rewards = [trajectory.reward for group in groups for trajectory in group.trajectories]
    console.print(f"{len(rewards)} episodes, mean reward {sum(rewards) / len(rewards):.3f}")


def _groups(config: RunConfig, episodes: int) -> Iterator[Group]:
    """One episode of each of the first tasks of the stream, a few batches at a time."""
    stream, sampling = stream_of(config), config.rollout.sampling
    width = config.rollout.runners * config.rollout.episodes_per_runner
    with rollout_side(config) as side:
        positions = iter(range(episodes))
        while batch := list(islice(positions, width)):
            with working(f"episodes {batch[0] + 1} to {batch[-1] + 1}"):
                groups = list(side.collector.run(requests_for(config, stream, batch, 1, sampling)))
            yield from groups


def _report(counts: CollectedTurns) -> None:
    if counts.episodes % REPORT_EVERY == 0:
        console.print(_counts(counts))


def _counts(counts: CollectedTurns) -> str:
    return (
        f"{counts.episodes} episodes, {counts.turns} turns, {counts.tokens} output tokens, "
        f"mean reward {counts.mean_reward:.3f}"
    )
