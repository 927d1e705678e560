"""What the learner trains on: token sequences with per-token advantages. No environment, no text."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainSequence:
    """One turn, ready for the loss.

    ``advantages`` and ``logprobs`` have one value per output token; for SFT ``logprobs`` is empty and the
    advantages are the tokens' loss weights (1.0).
    """

    prompt_ids: list[int]
    output_ids: list[int]
    advantages: list[float]
    logprobs: list[float] = field(default_factory=list)  # of the engine that sampled the tokens
    trajectory: int = 0  # index of the trajectory within the batch (sequence-mean and logging)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.output_ids)
