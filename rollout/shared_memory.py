"""Weights on their way into an engine: bytes become a file in shared memory while the update takes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rollout.errors import WeightUpdateError

_SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def safetensors_files(weights: bytes | memoryview | str | Path) -> Iterator[list[Path]]:
    """The safetensors files that hold ``weights``: given ones stay, one written here for bytes is removed.

    Raises WeightUpdateError when a path has no safetensors file.
    """
    if isinstance(weights, str | Path):
        yield _existing(Path(weights))
        return
    with tempfile.NamedTemporaryFile(
        dir=_directory(len(weights)), prefix="atommem-weights-", suffix=".safetensors"
    ) as file:
        file.write(weights)
        file.flush()
        yield [Path(file.name)]


def _existing(path: Path) -> list[Path]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise WeightUpdateError(f"no safetensors file at '{path}' on this node")
    return files


def _directory(size: int) -> Path | None:
    """Shared memory if there is room for ``size`` bytes (containers often have 64 MB), else a disk folder."""
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > size:
        return _SHARED_MEMORY
    return None
