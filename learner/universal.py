"""A checkpoint for another number of workers: DeepSpeed's universal format, made when it is needed.

The universal format (arXiv 2406.18820) holds every parameter and its moments whole, one folder each, so that any
number of ranks can take its partition. Without ZeRO every rank holds everything anyway: nothing is converted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from env.errors import UserError

TAG = "universal"


@contextmanager
def universal_copy(state: Path) -> Iterator[Path]:
    """Convert DeepSpeed's folder ``state``; yields the folder that holds ``universal``, which goes away afterwards.

    It is made beside the checkpoint, where every node sees it. Raises UserError when the conversion fails.
    """
    with tempfile.TemporaryDirectory(dir=state.parent, prefix=".universal-") as place:
        command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--input_folder", str(state)]
        command += ["--output_folder", str(Path(place) / TAG), "--inject_missing_state"]
        command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{state.parent.parent} cannot be read by another number of workers: {last}")
        yield Path(place)
