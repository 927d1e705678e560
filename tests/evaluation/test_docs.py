"""The method and the suite that docs/evaluation.md shows do run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from evaluation.catalog import make_suite

from .scripted import ENV, play

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
METHOD, SUITE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "first_last.py").write_text(METHOD)
    (tmp_path / "apples.py").write_text(SUITE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("first_last", "apples"):
        sys.modules.pop(name, None)


async def test_a_method_and_a_suite_of_ones_own(own):
    [task, _] = make_suite("apples:Apples", {"days": 6}).tasks(2, seed=1)
    total = sum((1 + day) % 7 for day in range(6))
    assert task.questions[0].answers == (str(total),)
    say = ["many apples", f"<answer>{total}</answer>"]
    trajectory, prompts = await play("first_last:FirstLast", task, lambda prompt, call: say[call], ENV)
    assert trajectory.failure is None and trajectory.answers[0].scores["em"] == 1.0
    assert "many apples" in prompts[1] and len(trajectory.turns[1].record.retrieved) == 1
    assert trajectory.metrics["store/size"] == 2
