"""A whole iteration of GRPO, with everything that this project adds and without: where each second goes.

Both sides play the same episodes (`benchmarks.scribe`) on the same engine, train the same model on their turns, and
send it back. On: every episode at its own pace, shared-first prompts, embeddings batched and cached, turns that share
prefixes in the learner. Off: episodes in lockstep, the chunk last, an embedding request per text, and the padded loop.
That the gradient is the same is held by the tests; that lockstep samples the same, by the seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM

from benchmarks.embedding import OneByOne
from benchmarks.engines import Lockstep, engines, play, requests, tiny
from benchmarks.learner import padded_loop
from benchmarks.results import Ratio, keep
from benchmarks.scribe import SCALED, Scribe, untrained
from benchmarks.shared_prefixes import cut, learn
from cluster.config import RunConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from learner.types import TrainSequence
from rollout.pool import EnginePool
from rollout.types import Generator, Trajectory

TASKS, GROUP, ROUNDS = 2, 8, 2
PHASES = ("rollout", "learn", "sync")
Learn = Callable[[Sequence[TrainSequence]], None]


class Side:
    """One way of making an iteration."""

    def __init__(self, config: RunConfig, pool: EnginePool, lockstep: bool, learn_from: Learn) -> None:
        self._config, self._pool, self._lockstep, self._learn_from = config, pool, lockstep, learn_from
        self.seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}

    def iterate(self) -> None:
        """Sample, learn, bring the weights to the engine (which empties its cache)."""
        marks = [time.perf_counter()]
        turns = [turn for number, one in enumerate(self._sample()) for turn in sequences(one, number)]
        marks.append(time.perf_counter())
        self._learn_from(turns)
        marks.append(time.perf_counter())
        self._pool.update_weights(self._config.model, 0)
        marks.append(time.perf_counter())
        for phase, begun, ended in zip(PHASES, marks, marks[1:], strict=False):
            self.seconds[phase].append(ended - begun)

    def _sample(self) -> list[Trajectory]:
        engine: Generator = Lockstep(self._pool, TASKS * GROUP) if self._lockstep else self._pool
        inner = make_embedder(self._config.env.embedder)
        scribe = Scribe(engine, ChatTokenizer(self._config.model))
        groups = requests(self._config, TASKS, GROUP)
        return play(self._config, scribe, groups, OneByOne(inner) if self._lockstep else BatchedEmbedder(inner))

    def mean(self, phase: str) -> float:
        """Seconds, without the first iteration, which warms up."""
        return fmean(self.seconds[phase][1:])


def sequences(trajectory: Trajectory, number: int) -> list[TrainSequence]:
    """All turns of an episode, each with the same advantage."""
    return [
        TrainSequence(list(turn.prompt_ids), list(turn.output_ids), [1.0] * len(turn.output_ids), [], number)
        for turn in trajectory.turns
    ]


def compare(model: str) -> tuple[list[Ratio], dict[str, dict[str, float]]]:
    """The sides in turn on one engine; seconds per phase."""
    torch.set_num_threads(2)
    kinds = ("sdpa", "shared_prefixes")
    plain, shared = (AutoModelForCausalLM.from_pretrained(model, attn_implementation=kind) for kind in kinds)
    places = (f"model={model}", *SCALED)
    with engines(tiny(*places)) as pool:
        on = Side(tiny(*places), pool, False, lambda turns: learn(shared, cut(turns, True)))
        last = tiny(*places, "env.prompt_order=chunk-last")
        off = Side(last, pool, True, lambda turns: padded_loop(plain, turns))
        for _ in range(1 + ROUNDS):
            on.iterate()
            off.iterate()
    seconds = {side: {phase: made.mean(phase) for phase in PHASES} for side, made in (("on", on), ("off", off))}
    return ratios_of(seconds), seconds


def ratios_of(seconds: dict[str, dict[str, float]]) -> list[Ratio]:
    """The whole and its parts."""
    total = {side: sum(parts.values()) for side, parts in seconds.items()}
    idle = {side: 1 - parts["rollout"] / total[side] for side, parts in seconds.items()}
    whole = Ratio(
        "iteration: everything on against off", f"{total['on']:.1f} s", f"{total['off']:.1f} s",
        total["off"] / total["on"], 3.0, "lockstep, chunk last, one embedding request per text, padded loop (own)",
        f"engine idle {idle['on']:.0%} of an iteration on, {idle['off']:.0%} off; learner the rest",
    )  # fmt: skip
    parts = [
        Ratio(
            f"iteration: {phase}", f"{seconds['on'][phase]:.2f} s", f"{seconds['off'][phase]:.2f} s",
            seconds["off"][phase] / seconds["on"][phase], None, "the same",
        )
        for phase in PHASES
    ]  # fmt: skip
    return [whole, *parts]


def main() -> None:
    """Measure and keep."""
    started = time.monotonic()
    with untrained() as model:
        ratios, seconds = compare(model)
    keep("iteration", ratios, started, seconds=seconds)


if __name__ == "__main__":
    main()
