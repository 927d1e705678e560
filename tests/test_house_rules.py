"""What the house promises about itself: imports go one way, and the command and the configuration are light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("env", "rollout", "learner", "evaluation", "cluster")
HEAVY = ("torch", "ray", "vllm", "deepspeed", "transformers", "faiss", "datasets", "sklearn")
LIGHT = ["cluster.cli", "cluster.recipes", "cluster.serving.config", *(f"{folder}.config" for folder in ORDER)]
LIGHT += [f"{folder}.types" for folder in ("env", "rollout", "learner")]


def _imported(path: Path) -> set[str]:
    """First components of all modules that a file imports, at whatever depth of its code."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_ = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), f"{path}: relative import"
    return {name.split(".")[0] for name in plain + from_}


@pytest.mark.parametrize("folder", ORDER)
def test_imports_go_one_way(folder: str) -> None:
    later = set(ORDER[ORDER.index(folder) + 1 :]) | {"tests"}
    broken = {
        str(path.relative_to(ROOT)): sorted(wrong)
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (wrong := _imported(path) & later)
    }
    assert not broken


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


COMMANDS = (
    "", "train", "sft", "collect", "rollout", "report", "data build", "plan", "submit", "status", "evaluate", "compare",
)  # fmt: skip


@pytest.mark.parametrize("command", [name.split() for name in COMMANDS])
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["atommem", *{command!r}, "--help"]
from cluster.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
assert not [name for name in {HEAVY!r} if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
