"""Raw records of a source: JSON and JSONL (also .gz); parquet, directories, hub names through `datasets`.

JSON is read here rather than through `datasets`: its columnar reader refuses a whole file for one odd record
and cannot say which, while a user needs the record's number.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env.errors import UserError

JSON_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True)
class RawRecord:
    """One record as the file holds it; `number` counts from 1 (for JSONL it is the line)."""

    number: int
    value: Any
    error: str | None = None  # why the value could not be read at all


def raw_records(source: str, split: str) -> Iterator[RawRecord]:
    """The records of a file, of a directory that `datasets` can load, or of a hub dataset `name[:config]`.

    `split` matters for the last two. Raises UserError for a source that is missing, empty or unreadable."""
    path = Path(source).expanduser()
    if path.is_file() and source.endswith(JSON_SUFFIXES):
        return _json_records(path)
    if path.is_file() and path.suffix == ".parquet":
        return _dataset_records("parquet", None, "train", data_files=str(path))
    if path.is_file():
        raise UserError(f"{source}: unknown kind of file; expected {', '.join(JSON_SUFFIXES)} or .parquet")
    if not path.is_dir() and _looks_like_path(source):
        raise UserError(f"data file {source} does not exist")
    name, _, config = source.partition(":")
    return _dataset_records(name, config or None, split)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, unpacked if it is .gz. Raises UserError if it is missing, damaged or
    empty."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise UserError(f"{path} is empty")
    return text


def _looks_like_path(source: str) -> bool:
    known = source.endswith((*JSON_SUFFIXES, ".parquet", ".gz"))
    return known or source.startswith(("/", ".", "~")) or source.count("/") > 1


def _json_records(path: Path) -> Iterator[RawRecord]:
    """A JSON list, or one JSON object a line; the first character tells which, not the name."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return _json_lines(text)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    return (RawRecord(number, value) for number, value in enumerate(values, start=1))


def _json_lines(text: str) -> Iterator[RawRecord]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield RawRecord(number, json.loads(line))
        except json.JSONDecodeError as error:
            yield RawRecord(number, None, f"not JSON: {error.msg} at column {error.colno}")


def _dataset_records(name: str, config: str | None, split: str, **options: Any) -> Iterator[RawRecord]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        dataset = load_dataset(name, config, split=split, **options)
    except (DatasetsError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        where = f"{options.get('data_files', name)!r} (config {config}, split {split!r})"
        raise UserError(f"dataset {where} cannot be loaded: {reason}") from error
    return (RawRecord(number, value) for number, value in enumerate(dataset, start=1))
