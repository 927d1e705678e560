"""Tasks as parquet files, with a hash of their content that is checked when they are opened."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from env.errors import UserError
from env.metrics import normalize
from env.types import Question, Task

HASH_KEY = b"content_sha256"
ROW_GROUP = 8  # tasks that are decoded together; one task of 800 documents is about half a megabyte

_QUESTION = pa.struct([("text", pa.string()), ("answers", pa.list_(pa.string())), ("kind", pa.string())])
SCHEMA = pa.schema(
    [
        ("task_id", pa.string()),
        ("units", pa.list_(pa.string())),
        ("questions", pa.list_(_QUESTION)),
        ("metadata", pa.string()),  # JSON
    ]
)


class ContentHash:
    """SHA-256 over tasks in order; equal for equal tasks whatever wrote them, on any platform."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, task: Task) -> None:
        """Take in the next task."""
        self._digest.update(json.dumps(asdict(task), sort_keys=True, ensure_ascii=False).encode())

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._digest.hexdigest()


def save_tasks(tasks: Iterable[Task], path: Path) -> str:
    """Write tasks one row each and return their content hash, which the file carries in its metadata.

    Tasks are taken from the iterable a few at a time. The file appears when it is whole; one that exists is
    refused (UserError)."""
    if path.exists():
        raise UserError(f"{path} exists already: remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    content, rows = ContentHash(), iter(tasks)
    try:
        with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
            while group := list(islice(rows, ROW_GROUP)):
                for task in group:
                    content.add(task)
                writer.write_table(pa.Table.from_pylist([_row(task) for task in group], schema=SCHEMA))
            writer.add_key_value_metadata({HASH_KEY: content.hexdigest()})
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return content.hexdigest()


def _row(task: Task) -> dict[str, Any]:
    return {**asdict(task), "metadata": json.dumps(task.metadata, ensure_ascii=False)}


class ParquetSource:
    """Random access to the tasks of a parquet file; only a few row groups are in memory at a time."""

    def __init__(self, path: Path):
        """Reads the file through once. Raises UserError if it is missing, unreadable, empty, lacks a column
        or a value, or if its content is not what its hash says."""
        self._path = path
        if not path.is_file():
            raise UserError(f"task file {path} does not exist")
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is not a readable parquet file: {error}") from error
        missing = set(SCHEMA.names) - set(self._file.schema_arrow.names)
        if missing:
            raise UserError(f"{path} is no task file: it has no column {', '.join(sorted(missing))}")
        self._places = [
            (group, row)
            for group in range(self._file.num_row_groups)
            for row in range(self._file.metadata.row_group(group).num_rows)
        ]
        if not self._places:
            raise UserError(f"{path} holds no tasks")
        self._group = lru_cache(maxsize=4)(self._read_group)
        self.content_hash, self.question_keys = self._scan()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"task {index} of {len(self)}")
        group, row = self._places[index]
        return self._group(group)[row]

    def _scan(self) -> tuple[str, list[frozenset[str]]]:
        """The content hash, checked, and every task's normalised questions."""
        content, keys = ContentHash(), []
        for task in (self[index] for index in range(len(self))):
            content.add(task)
            keys.append(frozenset(normalize(question.text) for question in task.questions))
        stated = (self._file.metadata.metadata or {}).get(HASH_KEY)
        if stated is not None and stated.decode() != content.hexdigest():
            raise UserError(f"{self._path} is damaged or was edited: its content does not match its hash")
        return content.hexdigest(), keys

    def _read_group(self, group: int) -> list[Task]:
        try:
            rows = self._file.read_row_group(group, columns=SCHEMA.names).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path} is damaged: {error}") from error
        return [self._task(row) for row in rows]

    def _task(self, row: dict[str, Any]) -> Task:
        where = f"{self._path}, task {row['task_id']!r}"
        try:
            questions = tuple(
                Question(q["text"], tuple(q["answers"]), q["kind"] or "") for q in row["questions"]
            )
            task = Task(row["task_id"], tuple(row["units"]), questions, json.loads(row["metadata"] or "{}"))
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise UserError(f"{where}: a value is missing or malformed ({error})") from error
        for name, value in (("units", task.units), ("questions", questions)):
            if not value:
                raise UserError(f"{where}: '{name}' is empty")
        if not all(question.answers for question in questions):
            raise UserError(f"{where}: a question without an answer")
        return task
