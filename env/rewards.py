"""The terminal reward of an episode."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from env.config import RewardConfig
from env.errors import JudgeError, TaskError
from env.judge import Judge
from env.metrics import scores
from env.types import AnswerRecord


async def episode_reward(
    answers: Sequence[AnswerRecord], valid_share: float, config: RewardConfig, judge: Judge | None
) -> float:
    """mean(metric over the questions) + format_weight * valid_share; a question never answered counts 0.

    Fills every record's `scores` (em, f1, cover_em, and judge where that is the metric). `valid_share` in [0,
    1] is the share of valid operations. Raises JudgeError, and TaskError for an episode without questions.
    """
    if not answers:
        raise TaskError("the task has no questions, so there is nothing to reward")
    for record in answers:
        record.scores.update(scores(record.answer, record.gold))
    if config.metric == "judge":
        if judge is None:
            raise JudgeError("env.reward.metric is 'judge', but the environment was given no judge")
        verdicts = await asyncio.gather(*(_judged(record, judge) for record in answers))
        for record, verdict in zip(answers, verdicts, strict=True):
            record.scores["judge"] = verdict
    mean = sum(record.scores[config.metric] for record in answers) / len(answers)
    return mean + config.format_weight * valid_share


async def _judged(record: AnswerRecord, judge: Judge) -> float:
    return 0.0 if record.answer is None else await judge.score(record.question, record.gold, record.answer)
