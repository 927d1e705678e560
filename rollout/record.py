"""A trajectory as JSON for people and viewers: what was shown, said and done, without token ids."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rollout.types import Trajectory, Turn


def trajectory_to_json(trajectory: Trajectory) -> dict[str, Any]:
    """One line of ``trajectories/step_XXXXXX.jsonl``: JSON-ready; ids and log-probabilities become counts."""
    return {
        "task_id": trajectory.task_id,
        "index": trajectory.index,
        "reward": trajectory.reward,
        "seconds": trajectory.seconds,
        "metrics": dict(trajectory.metrics),
        "failure": asdict(trajectory.failure) if trajectory.failure else None,
        "answers": [asdict(answer) for answer in trajectory.answers],
        "turns": [_turn_to_json(turn) for turn in trajectory.turns],
    }


def _turn_to_json(turn: Turn) -> dict[str, Any]:
    return {
        "record": asdict(turn.record),
        "output_tokens": len(turn.output_ids),
        "prompt_tokens": len(turn.prompt_ids),
        "cached_tokens": turn.cached_tokens,
        "seconds": turn.seconds,
        "policy_version": turn.policy_version,
        "finish_reason": turn.finish_reason,
    }
