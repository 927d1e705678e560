"""What each generated token is worth: its advantage, and its share in the loss of the whole batch.

Both are settled here, once, over the whole batch. The workers then only sum ``weight * token loss``, so that a batch
may be cut into micro-batches and spread over ranks in any way without changing the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from learner.config import GRPOConfigSection
from learner.types import TrainSequence
from rollout.types import Group

_EPSILON = 1e-6  # keeps a group of nearly equal rewards finite under mean_std


def advantages(rewards: Sequence[float], mode: Literal["mean", "mean_std"] = "mean") -> list[float]:
    """Group-relative advantages, one per episode.

    ``mean``: r - mean(r) (Dr.GRPO, arXiv 2503.20783); ``mean_std``: the same divided by the group's standard
    deviation (GRPO, arXiv 2402.03300; the population's, as the group is all there is).
    """
    values = np.asarray(rewards, dtype=np.float64)
    centred = values - values.mean()
    return (centred if mode == "mean" else centred / (values.std() + _EPSILON)).tolist()


def sequences_from_groups(groups: Sequence[Group], config: GRPOConfigSection) -> list[TrainSequence]:
    """The turns of all trajectories that ended well; one advantage per trajectory, given to all its output tokens.

    Failed trajectories are left out before the group's mean is taken. Turns without output are left out.
    """
    sequences: list[TrainSequence] = []
    index = 0
    for group in groups:
        whole = [trajectory for trajectory in group.trajectories if trajectory.failure is None]
        if not whole:
            continue
        values = advantages([trajectory.reward for trajectory in whole], config.advantage)
        for trajectory, value in zip(whole, values, strict=True):
            for turn in (turn for turn in trajectory.turns if turn.output_ids):
                worth = [value] * len(turn.output_ids)
                sequences.append(TrainSequence(turn.prompt_ids, turn.output_ids, worth, turn.logprobs, index))
            index += 1
    return sequences


def policy_weights(batch: Sequence[TrainSequence], config: GRPOConfigSection) -> list[np.ndarray]:
    """Each output token's weight in the policy loss, float32 [outputs] per sequence, by ``config.aggregation``.

    - token-mean: 1 / (output tokens of the batch) (DAPO, arXiv 2503.14476);
    - sequence-mean: 1 / (trajectories * output tokens of its trajectory) (GRPO);
    - dr-grpo: 1 / (trajectories * config.constant_tokens): the divisor does not depend on what was generated, so
      neither long nor short trajectories are favoured.
    """
    lengths: dict[int, int] = {}
    for sequence in batch:
        lengths[sequence.trajectory] = lengths.get(sequence.trajectory, 0) + len(sequence.output_ids)
    total = sum(lengths.values())

    def weight(sequence: TrainSequence) -> float:
        if config.aggregation == "token-mean":
            return 1 / total
        if config.aggregation == "sequence-mean":
            return 1 / (len(lengths) * lengths[sequence.trajectory])
        return 1 / (len(lengths) * config.constant_tokens)

    return [np.full(len(sequence.output_ids), weight(sequence), dtype=np.float32) for sequence in batch]


def imitation_weights(batch: Sequence[TrainSequence]) -> list[np.ndarray]:
    """SFT: each token's loss weight over the batch's sum of loss weights, float32 [outputs] per sequence."""
    raw = [np.asarray(sequence.advantages, dtype=np.float64) for sequence in batch]
    total = sum(float(values.sum()) for values in raw)
    if total <= 0:
        raise ValueError(f"the batch's loss weights sum to {total}, expected more than 0")
    return [(values / total).astype(np.float32) for values in raw]
