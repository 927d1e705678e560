"""Where tasks come from, and the endless, exactly resumable stream in which training takes them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from env.config import EnvConfig
from env.errors import UserError
from env.haystack import DocumentPool, HaystackSource, own_contexts
from env.metrics import normalize
from env.own_tasks import JsonlSource
from env.qa_data import load_corpus, load_records
from env.qa_formats import QARecord
from env.registry import RegistrySource
from env.task_files import ParquetSource
from env.types import Task

logger = logging.getLogger(__name__)

Split = Literal["train", "eval"]
EVAL_SHARE = 0.1  # of the data, from its end, when no eval_data is given
FEISTEL_ROUNDS = 8


class TaskSource(Protocol):
    """Tasks by index: random access, and the same task for the same index every time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Task: ...


class Subset:
    """Some of another source's tasks, in the given order."""

    def __init__(self, source: TaskSource, indices: Sequence[int]):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        return self._source[self._indices[index]]


def make_source(config: EnvConfig, split: Split, seed: int) -> TaskSource:
    """The source of the tasks that `config.task` names.

    The eval split is `eval_data` where that is given, otherwise the last tenth of `data`, none of whose
    questions is in the train split (for the registry: a world of its own). Raises UserError for data that
    cannot be used."""
    if config.task == "registry":
        return RegistrySource(config.registry, seed, split)
    if config.data is None:
        raise UserError(f"env.data is not set: task {config.task!r} reads a file or a hub dataset")
    if config.task in ("parquet", "jsonl"):
        return _file_source(config, split)
    return _haystack_source(config, split, seed)


def _file_source(config: EnvConfig, split: Split) -> TaskSource:
    data = _data_of(config, split)
    source = JsonlSource(data) if config.task == "jsonl" else ParquetSource(Path(data).expanduser())
    if config.eval_data is not None:
        return source
    return Subset(source, hold_out(source.question_keys, _data_of(config, split))[split])


def _haystack_source(config: EnvConfig, split: Split, seed: int) -> HaystackSource:
    data = _data_of(config, split)
    records, pool, skipped = _load(config, data)
    if config.eval_data is None:
        keys = [frozenset([normalize(record.question.text)]) for record in records]
        records = [records[index] for index in hold_out(keys, data)[split]]
    return HaystackSource(
        records, pool, config.haystack, seed=seed, dataset=config.task, split=split, skipped=skipped
    )


def _data_of(config: EnvConfig, split: Split) -> str:
    data = config.eval_data if split == "eval" and config.eval_data is not None else config.data
    assert data is not None
    return data


def _load(config: EnvConfig, data: str) -> tuple[list[QARecord], DocumentPool, int]:
    """Records, pool, and how many malformed records were skipped; train and eval of one run share them."""
    corpus = config.haystack.corpus
    stamps = (_stamp(data), _stamp(corpus) if corpus else None)
    return _load_cached(config.task, data, config.split, corpus, config.haystack.skip_bad, stamps)


@lru_cache(maxsize=2)
def _load_cached(
    dataset: str, data: str, hub_split: str, corpus: str | None, skip_bad: bool, stamps: tuple[object, ...]
) -> tuple[list[QARecord], DocumentPool, int]:
    loaded = load_records(data, dataset, hub_split, skip_bad)
    if corpus is None:
        return loaded.items, own_contexts(loaded.items), len(loaded.skipped)
    passages = load_corpus(corpus, skip_bad)
    return loaded.items, DocumentPool(passages.items), len(loaded.skipped) + len(passages.skipped)


def _stamp(path: str) -> tuple[int, int] | None:
    """What changes when a file does; None for a hub name."""
    file = Path(path).expanduser()
    if not file.exists():
        return None
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


def hold_out(questions: Sequence[frozenset[str]], data: str) -> dict[Split, list[int]]:
    """Indices of the train and the eval items, given each item's normalised questions.

    Eval is the last tenth (at least one); train is the rest without the items that share a question with
    eval. Raises UserError, naming `data`, when nothing is left to train on."""
    cut = len(questions) - max(1, round(EVAL_SHARE * len(questions)))
    held = frozenset[str]().union(*questions[cut:])
    train = [index for index in range(cut) if held.isdisjoint(questions[index])]
    if not train:
        raise UserError(
            f"{data} has {len(questions)} items: holding out the last tenth and what shares its questions "
            "leaves none to train on; give more data, or set env.eval_data"
        )
    if len(train) < cut:
        logger.warning("%s: %d of %d training items share a question with the held-out ones and are left out",
                       data, cut - len(train), cut)
    return {"train": train, "eval": list(range(cut, len(questions)))}


class TaskStream:
    """An endless stream over a source: a fresh permutation in every epoch; the position is its only state."""

    def __init__(self, source: TaskSource, seed: int):
        self._source, self._seed = source, seed

    def at(self, position: int) -> Task:
        """The task at a position (0, 1, ...): in every epoch of len(source) positions each task comes
        once."""
        if position < 0:
            raise ValueError(f"position {position} is negative")
        epoch, offset = divmod(position, len(self._source))
        return self._source[permuted(offset, len(self._source), f"{self._seed}/{epoch}".encode())]


def permuted(index: int, size: int, key: bytes) -> int:
    """The image of `index` under a permutation of range(size) chosen by `key`, in constant memory.

    A balanced Feistel network over the next power of four (Luby and Rackoff 1988), walked until it lands
    within range(size) (cycle walking: Black and Rogaway 2002); at most 4 rounds of walking are expected."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for round_number in range(FEISTEL_ROUNDS):
            word = hashlib.blake2b(b"%d/%d" % (round_number, right), digest_size=8, key=key[:64]).digest()
            left, right = right, left ^ (int.from_bytes(word, "big") & mask)
        index = left << half | right
        if index < size:
            return index
