"""The results of an evaluation on disk: one file per finished task, so that a kill loses only what was running.

    DIR/config.yaml                       the resolved configuration
    DIR/manifest.json                     the hash of every task, the fingerprint of every cell
    DIR/tasks/<suite>/<variant>/00012.json.gz   rows and trajectory of one task
    DIR/results.parquet, report.html, plots/    made from those
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from env.errors import UserError
from env.types import Task
from evaluation.cells import Cell, task_hash
from evaluation.files import replace_file
from evaluation.rows import SCHEMA, table

RETRIED = ("engine", "judge")  # boundaries whose failures say nothing about the method


class Results:
    """The directory of one evaluation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def claim(self, config: str, cells: Sequence[Cell], tasks: Mapping[str, Sequence[Task]]) -> None:
        """Write what these results belong to. Raises UserError when the directory holds others under their name."""
        manifest: dict[str, Any] = {
            "tasks": {suite: [task_hash(task) for task in of_suite] for suite, of_suite in tasks.items()},
            "cells": {cell.key: cell.fingerprint() for cell in cells},
        }
        if (self.directory / "manifest.json").exists():
            old = self.manifest()
            self._check(old, manifest)
            longest = {s: max(h, old["tasks"].get(s, []), key=len) for s, h in manifest["tasks"].items()}
            manifest = {"tasks": old["tasks"] | longest, "cells": old["cells"] | manifest["cells"]}
        self.directory.mkdir(parents=True, exist_ok=True)
        replace_file(self.directory / "config.yaml", config.encode())
        replace_file(self.directory / "manifest.json", json.dumps(manifest, indent=1).encode())

    def manifest(self) -> dict[str, Any]:
        """`tasks`: suite -> hashes in order; `cells`: key -> fingerprint. Raises UserError when there is none."""
        path = self.directory / "manifest.json"
        if not path.is_file():
            raise UserError(f"{self.directory} holds no evaluation: it has no manifest.json")
        return json.loads(path.read_text(encoding="utf-8"))

    def _check(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        other = "choose another name (--set name=...) or remove the folder"
        for suite, hashes in new["tasks"].items():
            pairs = zip(hashes, old["tasks"].get(suite, []), strict=False)
            if any(mine != theirs for mine, theirs in pairs):
                raise UserError(f"{self.directory} holds results of suite {suite!r} on other tasks: {other}")
        for key, fingerprint in new["cells"].items():
            if key in old["cells"] and (differs := _differences(old["cells"][key], fingerprint)):
                raise UserError(f"{self.directory} holds results of {key} with other settings ({differs[0]}): {other}")

    def path(self, key: str, index: int) -> Path:
        """The file of a cell's task."""
        return self.directory / "tasks" / key / f"{index:05d}.json.gz"

    def add(self, key: str, index: int, rows: Sequence[Mapping[str, Any]], trajectory: Mapping[str, Any]) -> None:
        """Keep one finished task; the file appears when it is whole."""
        path = self.path(key, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"rows": rows, "trajectory": trajectory}, ensure_ascii=False).encode()
        replace_file(path, gzip.compress(content, compresslevel=5))

    def read(self, key: str, index: int) -> dict[str, Any]:
        """`rows` and `trajectory` of a finished task."""
        return json.loads(gzip.decompress(self.path(key, index).read_bytes()))

    def indices(self, key: str) -> list[int]:
        """The tasks of a cell that have results."""
        return sorted(int(path.name.split(".")[0]) for path in (self.directory / "tasks" / key).glob("[0-9]*.json.gz"))

    def finished(self, key: str) -> set[int]:
        """The tasks of a cell that need not run again: all but those that failed at the engine or the judge."""
        return {index for index in self.indices(key) if self.read(key, index)["rows"][0]["failure"] not in RETRIED}

    def rows(self) -> list[dict[str, Any]]:
        """All rows, cell by cell in the order of the manifest."""
        keys = self.manifest()["cells"]
        return [row for key in keys for index in self.indices(key) for row in self.read(key, index)["rows"]]

    def write_parquet(self) -> Path:
        """Write results.parquet from the finished tasks."""
        path = self.directory / "results.parquet"
        beside = path.with_name(f".{path.name}.new")
        pq.write_table(table(self.rows()), beside, compression="zstd")
        beside.rename(path)
        return path


def read_rows(directory: Path) -> list[dict[str, Any]]:
    """The rows of results.parquet. Raises UserError when it is missing or has other columns."""
    path = directory / "results.parquet"
    if not path.is_file():
        raise UserError(f"{directory} has no results.parquet: run `atommem evaluate` to its end")
    found = pq.read_table(path)
    if missing := set(SCHEMA.names) - set(found.column_names):
        raise UserError(f"{path} lacks the columns {', '.join(sorted(missing))}: it is of another version")
    return found.to_pylist()


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        below = ((old.get(key), new.get(key), f"{name}.{key}".strip(".")) for key in {**old, **new})
        return [difference for item in below for difference in _differences(*item)]
    return [] if old == new else [f"{name}: {old!r} -> {new!r}"]
