"""Does the cost of a chunk stay flat on a very long text? Time and memory per chunk, by the real environment and store.

    python -m benchmarks.long_inputs --tokens 200000 --out build/long              # a real engine
    python -m benchmarks.long_inputs --tokens 3500000 --out build/longer \\
        --recorded runs/tiny/trajectories/step_000040.jsonl

The first plays one episode of the tiny policy (or `--model`) on a real engine. The second plays the outputs that a run
recorded, again and again, instead of asking an engine, at chunks of 4,096 tokens. Prints medians of the first and the
last tenth of the chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
from matplotlib.figure import Figure

from cluster.recipes import load_recipe, override
from cluster.rollouts import rollout_side
from env.embedding import BatchedEmbedder, make_embedder
from env.memory_env import MemoryEnv
from env.registry import RegistrySource
from env.tokenizer import ChatTokenizer
from env.types import Question, Task
from evaluation.run_files import read_jsonl
from rollout.types import Completion


class Recorded:
    """A generator that plays the outputs of a run's trajectories at their chunks, in turn."""

    def __init__(self, path: Path, tokenizer: ChatTokenizer) -> None:
        records = [turn["record"] for _, trajectory in read_jsonl(path) for turn in trajectory["turns"]]
        outputs = [record["output"] for record in records if record["phase"] == "chunk"]
        self._ids = itertools.cycle([tokenizer.encode(output) for output in outputs])

    async def generate(self, *args: Any) -> Completion:
        """The next output."""
        return Completion(next(self._ids), [], 0, "stop")


def long_task(tokens: int, tokenizer: ChatTokenizer, config: Any) -> tuple[Task, int]:
    """Registry sentences of many worlds, one after the other, with the first world's question; and their tokens."""
    source = RegistrySource(config, 7, "eval")
    units: list[str] = []
    length, first = 0, source[0]
    for index in itertools.count():
        if length >= tokens:
            break
        world = source[index].units
        units += world
        length += len(tokenizer.encode(" ".join(world)))
    question = Question(first.questions[0].text, first.questions[0].answers)
    return Task("long", (" ".join(units),), (question,)), length


async def play(env: MemoryEnv, tokenizer: ChatTokenizer, generator: Any, sampling: Any, task: Task) -> list[dict]:
    """One row per call: seconds in all and outside the engine, resident megabytes, entries, tokens."""
    messages, rows, process = await env.reset(task), [], psutil.Process()
    while messages is not None:
        started = time.perf_counter()
        prompt = tokenizer.encode_chat(messages)
        asked = time.perf_counter()
        completion = await generator.generate(prompt, sampling, 0, None)
        answered = time.perf_counter()
        text = tokenizer.decode(completion.token_ids)
        messages, _, _, _, record = await env.step(text, len(completion.token_ids))
        ended = time.perf_counter()
        rows.append({
            "phase": record.phase, "position": record.position, "seconds": ended - started,
            "environment": ended - started - (answered - asked), "megabytes": process.memory_info().rss / 2**20,
            "entries": record.store_size, "prompt": len(prompt), "output": len(completion.token_ids),
        })  # fmt: skip
    return rows


def tenths(values: list[float]) -> tuple[float, float, float]:
    """Median of the first and of the last tenth, and their ratio."""
    size = max(1, len(values) // 10)
    first, last = statistics.median(values[:size]), statistics.median(values[-size:])
    return first, last, last / first


def draw(rows: list[dict], path: Path, title: str) -> None:
    """Seconds, megabytes and entries per call over the episode."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axis, key, label in zip(
        figure.subplots(1, 3), ("seconds", "megabytes", "entries"),
        ("seconds per call", "resident memory, MB", "entries"), strict=True,
    ):  # fmt: skip
        axis.plot([row[key] for row in rows], linewidth=0.8, color="#0072b2")
        axis.set_ylim(0, 1.1 * max(row[key] for row in rows))
        axis.set(xlabel="call", ylabel=label)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run, write rows and plot, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--recorded", type=Path)
    parser.add_argument("--model", default="models/tiny-policy")
    parser.add_argument("--chunk", type=int, default=None)
    parser.add_argument("--capacity", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    chunk = asked.chunk or (4096 if asked.recorded else 256)
    run = load_recipe("recipes/tiny.yaml", ["rollout.engine.max_model_len=1024", "env.max_steps=null"])
    run = override(run, [f"model={asked.model}", "env.max_reads=0", f"env.capacity={asked.capacity}"])
    env = run.env.model_copy(update={"chunk_tokens": chunk, "chunk_boundary": "token"})
    tokenizer = ChatTokenizer(run.model)
    task, length = long_task(asked.tokens, tokenizer, run.env.registry)
    window = 32_000 if asked.recorded else run.max_prompt_tokens
    memory = MemoryEnv(env, tokenizer, BatchedEmbedder(make_embedder(env.embedder)), None, window)
    if asked.recorded:
        rows = asyncio.run(play(memory, tokenizer, Recorded(asked.recorded, tokenizer), run.eval_sampling, task))
    else:
        with rollout_side(run) as side:
            rows = asyncio.run(play(memory, tokenizer, side.pool, run.eval_sampling, task))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "calls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = [row for row in rows if row["phase"] == "chunk"]
    draw(read, asked.out / "long_inputs.png", f"{length:,} tokens in {len(read):,} chunks of {chunk}")
    print(f"{length} tokens, {len(read)} chunks, {read[-1]['entries']} entries at the end")
    for key in ("seconds", "environment", "megabytes", "prompt"):
        first, last, ratio = tenths([row[key] for row in read])
        print(f"{key:12} first tenth {first:.4f}  last tenth {last:.4f}  ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
