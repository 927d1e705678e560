"""An LLM's verdict on every answer: retried, counted when it stays away, and never a silent 0."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from env.config import JudgeConfig
from env.errors import JudgeError
from env.judge import Judge
from env.types import Question
from evaluation.suite import Suite

AT_ONCE = 8


def needs_verdict(row: Mapping[str, Any]) -> bool:
    """Whether a row still waits for its verdict."""
    return row["judge"] is None


def judge_rows(rows: Sequence[dict[str, Any]], suites: Mapping[str, Suite], config: JudgeConfig) -> None:
    """Set `judge` of every row to 1 or 0, or leave it None and set `judge_error`; unanswered and failed: 0.

    Time-outs and lost connections are retried by the client, a nonsensical verdict here, `retries` times each.
    """
    asyncio.run(_judge_all(rows, suites, config))


async def _judge_all(rows: Sequence[dict[str, Any]], suites: Mapping[str, Suite], config: JudgeConfig) -> None:
    judge, places = Judge(config), asyncio.Semaphore(AT_ONCE)

    async def one(row: dict[str, Any]) -> None:
        async with places:
            await _judge(row, judge, suites[row["suite"]], config.retries)

    try:
        await asyncio.gather(*map(one, rows))
    finally:
        await judge.close()


async def _judge(row: dict[str, Any], judge: Judge, suite: Suite, retries: int) -> None:
    row["judge_error"] = None
    if row["answer"] is None:
        row["judge"] = 0.0
        return
    rubric = suite.rubric(Question(row["question"], tuple(row["gold"]), row["kind"]))
    for _ in range(retries + 1):
        try:
            row["judge"] = await judge.score(row["question"], row["gold"], row["answer"], rubric)
        except JudgeError as error:
            row["judge_error"] = str(error)
        else:
            row["judge_error"] = None
            return
