"""How much an iteration has to compute: turns and tokens of an episode, from the recipe and its data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

from cluster.config import RunConfig
from env.chunking import chunks
from env.errors import UserError
from env.prompt import template_texts
from env.tasks import make_source
from env.tokenizer import ChatTokenizer

TOKENS_PER_DOCUMENT = 140  # the paper: 200 documents are about 28K tokens
OUTPUT_TOKENS_PER_TURN = 52.3  # the paper: 570.5 output tokens in 10.9 calls per task
CHARACTERS_PER_TOKEN = 4.0  # of English prose, for templates when there is no tokenizer to count
FILLED = 0.5  # of the room for the scratchpad and for retrieved text, on average over an episode
SAMPLED_TASKS = 16


@dataclass(frozen=True)
class Workload:
    """Means over episodes. ``shared`` prompt tokens are equal within a group, so its prefix cache pays once."""

    episodes: int
    group_size: int
    turns: float
    prompt: float  # tokens per turn
    shared: float  # of them
    output: float  # tokens per turn

    @property
    def tokens(self) -> float:
        """All tokens that the learner sees in an iteration."""
        return self.episodes * self.turns * (self.prompt + self.output)

    @property
    def prefill(self) -> float:
        """Prompt tokens that engines compute in an iteration: a shared one once per group."""
        per_episode = self.prompt - self.shared + self.shared / self.group_size
        return self.episodes * self.turns * per_episode


def workload_of(config: RunConfig, output_tokens: float | None = None) -> Workload:
    """An iteration's work. Chunks and questions are counted on the recipe's data where that is there, else estimated.

    Args:
        config: the run.
        output_tokens: per turn; None: what the paper's trained policy writes, at most `max_new_tokens`.
    """
    env, rollout = config.env, config.rollout
    chunk_count, questions, chunk_tokens = _counted(config) or _estimated(config)
    turns = chunk_count + questions
    template = sum(map(len, template_texts(env.prompt))) / CHARACTERS_PER_TOKEN
    own = FILLED * (env.scratchpad_tokens + min(env.retrieved_tokens, config.max_prompt_tokens - env.chunk_tokens))
    shared = template + chunk_tokens * chunk_count / turns  # a question's turn shows no chunk
    output = OUTPUT_TOKENS_PER_TURN if output_tokens is None else output_tokens
    return Workload(
        episodes=rollout.tasks_per_batch * rollout.group_size,
        group_size=rollout.group_size,
        turns=turns if env.max_steps is None else min(turns, env.max_steps),
        prompt=min(shared + own, config.max_prompt_tokens),
        shared=min(shared, config.max_prompt_tokens),
        output=min(output, rollout.sampling.max_new_tokens),
    )


def _counted(config: RunConfig) -> tuple[float, float, float] | None:
    """Chunks, questions and tokens per chunk over the first tasks; None when the data or the tokenizer is not here."""
    if not Path(config.model).is_dir():
        return None
    if config.env.task != "registry" and not Path(config.env.data or "").is_file():
        return None
    tokenizer = ChatTokenizer(config.model)
    source = make_source(config.env, "train", config.seed)
    tasks = [source[index] for index in islice(range(len(source)), SAMPLED_TASKS)]
    cut = [chunks(task, tokenizer, config.env) for task in tasks]
    lengths = [len(tokenizer.encode(chunk)) for task in cut for chunk in task]
    return fmean(map(len, cut)), fmean(len(task.questions) for task in tasks), fmean(lengths)


def _estimated(config: RunConfig) -> tuple[float, float, float]:
    """The paper's documents, and its draw of questions: 1 in half of the tasks, else 2..max uniformly."""
    env = config.env
    if env.task in ("registry", "jsonl", "parquet"):
        raise UserError(
            f"the tasks of env.task {env.task!r} are counted with the model's tokenizer: model ({config.model!r}) must "
            f"be a folder here, and env.data ({env.data!r}) a file where the task reads one"
        )
    tokens = env.haystack.documents * TOKENS_PER_DOCUMENT
    step = env.chunk_tokens - env.chunk_overlap
    count = max(1, -(-(tokens - env.chunk_overlap) // step))
    most = env.haystack.questions_max
    questions = 1.0 if most == 1 else 0.5 + 0.5 * (2 + most) / 2
    return float(count), questions, min(tokens, (tokens + (count - 1) * env.chunk_overlap) / count)
