"""A run submitted to several raylets on this machine against the plain command: seconds from start to end. Run by hand:

    python -m benchmarks.submitted --raylets 4 --iterations 40          (about ten minutes on two free cores)
    python -m benchmarks.submitted --raylets 1 2 --iterations 8 --no-plain
    python -m benchmarks.submitted --raylets 4 --iterations 3 --no-plain --ray-job-submit

Every raylet has one CPU, so that engine, learners and runners lie on several. The plain run has one private Ray.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

from tests.cluster.nodes import ROOT, raylets

PLACES = ("rollout.runners=2", "rollout.runner_cpus=0.2", "learner.num_cpus=0.6")
FEW = ("rollout.runner_cpus=0.1", "learner.num_cpus=0.05", "rollout.engine.num_cpus=0.8")  # all of it on one CPU


def words(settings: list[str]) -> list[str]:
    """As the command line takes them."""
    return [word for setting in settings for word in ("--set", setting)]


def timed(command: list[str], run: Path) -> str:
    """Run to the end; seconds, and what the metrics say."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    each = fmean(row["time/rollout"] + row["time/learn"] + row["time/sync"] for row in rows[1:])
    return f"{seconds:.0f} s for {len(rows)} iterations, {each:.2f} s each after the first"


def main() -> None:
    """Print one line per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raylets", type=int, nargs="+", default=[4])
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--no-plain", action="store_true")
    parser.add_argument("--ray-job-submit", action="store_true", help="Ray's own command instead of atommem submit")
    options = parser.parse_args()
    atommem, recipe = [sys.executable, "-m", "cluster.cli"], "recipes/tiny.yaml"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        for count in options.raylets:
            run = Path(place) / f"raylets-{count}"
            settings = [f"run_dir={run}", f"loop.iterations={options.iterations}", *(PLACES if count > 3 else FEW)]
            with raylets(count, cpus=1) as nodes:
                command = [*atommem, "submit", recipe, "--address", nodes.dashboard, "--follow", *words(settings)]
                if options.ray_job_submit:
                    job = ["ray", "job", "submit", "--address", nodes.dashboard, "--working-dir", "."]
                    excludes = json.dumps({"excludes": [".git", ".venv", "runs"]})
                    command = [*job, "--runtime-env-json", excludes, "--", "atommem", "train", recipe, *words(settings)]
                print(f"{count} raylets: {timed(command, run)}", flush=True)
        if not options.no_plain:
            run = Path(place) / "plain"
            settings = [f"run_dir={run}", f"loop.iterations={options.iterations}"]
            print(f"plain: {timed([*atommem, 'train', recipe, *words(settings)], run)}", flush=True)


if __name__ == "__main__":
    main()
