"""A user's own JSONL: what it becomes, and what is said about a bad line."""

import json

import pytest

from env.config import EnvConfig
from env.errors import UserError
from env.tasks import make_source
from env.types import Question, Task


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def line(number):
    return {"text": [f"Fact {number}.", "More."], "questions": [{"text": f"Which {number}?", "answers": [str(number)]}]}


def test_lines_become_tasks_and_the_last_tenth_is_held_out(tmp_path):
    data = write(tmp_path / "own.jsonl", {**line(0), "id": "first", "text": "one text"}, *map(line, range(1, 20)))
    config = EnvConfig(task="jsonl", data=data)
    train, held_out = (make_source(config, split, 0) for split in ("train", "eval"))
    assert (len(train), len(held_out)) == (18, 2)
    assert train[0] == Task("first", ("one text",), (Question("Which 0?", ("0",)),))
    assert held_out[1] == Task("line-20", ("Fact 19.", "More."), (Question("Which 19?", ("19",)),))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"text": "x"}, "line 2: 'questions': Field required"),
        ({**line(1), "questions": []}, "line 2: 'questions': List should have at least 1 item"),
        ({**line(1), "questions": [{"text": "?", "answers": []}]}, "line 2: 'questions.0.answers': List should"),
        ({**line(1), "text": "  "}, "line 2: 'text': Value error, is blank"),
        ({**line(1), "answer": "x"}, "line 2: 'answer': Extra inputs are not permitted"),
        ("{broken", "line 2: "),
    ],
)
def test_a_bad_line_is_named_with_its_field(tmp_path, bad, message):
    with pytest.raises(UserError, match="own.jsonl, " + message):
        make_source(EnvConfig(task="jsonl", data=write(tmp_path / "own.jsonl", line(0), bad)), "train", 0)
