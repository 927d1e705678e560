"""Database rows as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Row

from cluster.serving.schemas import (
    Commit,
    Document,
    Entry,
    Operation,
    Session,
    ShownEntry,
    Source,
    Step,
    Usage,
)
from env.types import OperationRecord, StepRecord
from rollout.types import Turn


@dataclass(frozen=True)
class Event:
    """One server-sent event: `name` and `data` as `DocumentEvents` and `QuestionEvents` pair them."""

    name: str
    data: BaseModel
    id: int | None = None


def session_view(row: Row[Any]) -> Session:
    """A row of `sessions`."""
    return Session.model_validate(_fields(row, Session))


def document_view(row: Row[Any]) -> Document:
    """A row of `documents`."""
    return Document.model_validate(_fields(row, Document))


def _fields(row: Row[Any], model: type[BaseModel]) -> dict[str, Any]:
    return {name: row._mapping[name] for name in model.model_fields}


def entry_view(row: Row[Any], score: float | None = None) -> Entry:
    """A row of an entry with its source."""
    source = Source(document=row.document, chunk=row.chunk)
    return Entry(entry_id=row.entry_id, content=row.content, source=source, version=row.version, score=score)


def commit_view(row: Row[Any]) -> Commit:
    """A row of `commits`; `body` holds the rest of the fields."""
    commit = Commit.model_validate(
        {"operations": [], **row.body, **{name: row._mapping[name] for name in _COMMIT_COLUMNS}}
    )
    commit.operations = commit.operations or [operation for step in commit.steps for operation in step.operations]
    return commit


_COMMIT_COLUMNS = ("version", "kind", "document", "chunk", "entries", "created_at")


def operation_view(record: OperationRecord) -> Operation:
    """What the environment recorded of an operation."""
    return Operation.model_validate(vars(record))


def step_view(record: StepRecord, sources: Mapping[int, Row[Any]]) -> Step:
    """What the environment recorded of a step, with the source of every entry shown."""
    shown = [
        ShownEntry(entry_id=entry_id, content=content, source=_source(sources.get(entry_id)))
        for entry_id, content in record.retrieved
    ]
    return Step(
        query=record.query,
        retrieved=shown,
        scratchpad=record.scratchpad,
        output=record.output,
        operations=[operation_view(operation) for operation in record.operations],
    )


def _source(row: Row[Any] | None) -> Source:
    return Source() if row is None else Source(document=row.document, chunk=row.chunk)


def usage_of(turns: Iterable[Turn]) -> Usage:
    """Tokens of all turns."""
    counts = [(len(turn.prompt_ids), len(turn.output_ids)) for turn in turns]
    prompt, output = sum(count[0] for count in counts), sum(count[1] for count in counts)
    return Usage(prompt_tokens=prompt, completion_tokens=output, total_tokens=prompt + output)
