"""What one iteration measured, under the keys of metrics.jsonl. Pure functions over groups of trajectories."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, pstdev
from typing import get_args

from learner.advantages import advantages
from learner.config import GRPOConfigSection
from rollout.grouping import has_signal
from rollout.staleness import StalenessCount
from rollout.types import Boundary, Group, Trajectory, Turn

COUNTERS = ("step", "position", "policy_version")
OPERATIONS = ("create", "read", "update", "delete", "scratchpad", "answer", "invalid")


def rollout_metrics(
    groups: Sequence[Group], sampled: Sequence[Group], age: StalenessCount, grpo: GRPOConfigSection
) -> dict[str, float]:
    """Rewards, scores, operations, lengths, staleness and failures of one iteration.

    Args:
        groups: what the update trains on.
        sampled: all that was sampled for it, dropped groups included: these count for rewards, scores, operations,
            lengths and failures, so that a curve shows the policy and not the selection.
        age: the staleness of the sampled trajectories, in policy versions.
        grpo: how advantages are taken.

    Means are over finished episodes, `operations/*` over their steps, `invalid_rate` over their operations;
    `truncated_*` are shares.
    """
    trajectories = [trajectory for group in sampled for trajectory in group.trajectories]
    finished = [trajectory for trajectory in trajectories if trajectory.failure is None]
    turns = [turn for trajectory in finished for turn in trajectory.turns]
    return {
        **_rewards(finished),
        "advantage/std": _advantage_std(groups, grpo),
        "groups/total": float(len(sampled)),
        "groups/zero_variance": float(sum(not has_signal(group) for group in sampled)),
        "groups/dropped": float(len(sampled) - len(groups)),
        **_operations(finished),
        **_lengths(finished, turns),
        "staleness/mean": age.mean,
        "staleness/max": float(age.largest),
        "staleness/dropped": float(age.dropped),
        **_failures(trajectories),
    }


def speed(row: Mapping[str, float], sampling_seconds: float) -> dict[str, float]:
    """Throughput of sampling, which may overlap with other phases, and of learning, from an iteration's row."""
    return {
        "speed/output_tokens_per_s": _ratio(row["tokens/output_mean"] * row["episodes"], sampling_seconds),
        "speed/episodes_per_s": _ratio(row["episodes"], sampling_seconds),
        "speed/train_tokens_per_s": _ratio(row.get("tokens", 0.0), row.get("time/learn", 0.0)),
    }


def _rewards(finished: Sequence[Trajectory]) -> dict[str, float]:
    rewards = [trajectory.reward for trajectory in finished]
    return {
        "reward/mean": _mean(rewards),
        "reward/std": pstdev(rewards) if rewards else 0.0,
        "em": _mean(list(_scores(finished, "em"))),
        "f1": _mean(list(_scores(finished, "f1"))),
        "episodes": float(len(finished)),
    }


def _advantage_std(groups: Sequence[Group], grpo: GRPOConfigSection) -> float:
    rewards = [[t.reward for t in group.trajectories if t.failure is None] for group in groups]
    values = [value for group in rewards if group for value in advantages(group, grpo.advantage)]
    return pstdev(values) if values else 0.0


def _scores(finished: Sequence[Trajectory], name: str) -> Iterator[float]:
    return (answer.scores.get(name, 0.0) for trajectory in finished for answer in trajectory.answers)


def _operations(finished: Sequence[Trajectory]) -> dict[str, float]:
    steps = _total(finished, "steps")
    counts = {kind: _total(finished, f"ops/{kind}") for kind in OPERATIONS}
    return {
        **{f"operations/{kind}": _ratio(count, steps) for kind, count in counts.items()},
        "invalid_rate": _ratio(counts["invalid"], sum(counts.values())),
        "store/size": _ratio(_total(finished, "store/size"), len(finished)),
        "store/discarded": _ratio(_total(finished, "store/discarded"), len(finished)),
        "retrieved_cut": _ratio(_total(finished, "retrieved_cut"), len(finished)),
        "truncated_episodes": _ratio(_total(finished, "truncated"), len(finished)),
    }


def _lengths(finished: Sequence[Trajectory], turns: Sequence[Turn]) -> dict[str, float]:
    output = sum(len(turn.output_ids) for turn in turns)
    return {
        "turns": _ratio(len(turns), len(finished)),
        "tokens/prompt_mean": _ratio(sum(len(turn.prompt_ids) for turn in turns), len(turns)),
        "tokens/output_mean": _ratio(output, len(finished)),
        "tokens/output_per_turn": _ratio(output, len(turns)),
        "truncated_turns": _ratio(sum(turn.finish_reason == "length" for turn in turns), len(turns)),
    }


def _failures(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    counts = Counter(t.failure.boundary for t in trajectories if t.failure is not None)
    return {f"failures/{boundary}": float(counts[boundary]) for boundary in get_args(Boundary)}


def _total(trajectories: Sequence[Trajectory], metric: str) -> float:
    return sum(trajectory.metrics.get(metric, 0.0) for trajectory in trajectories)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def finite(row: dict[str, float]) -> dict[str, float | None]:
    """A row that is valid JSON: what is not finite becomes null; counters are whole numbers."""
    values = {key: value if math.isfinite(value) else None for key, value in row.items()}
    return {key: int(value) if key in COUNTERS and value is not None else value for key, value in values.items()}
