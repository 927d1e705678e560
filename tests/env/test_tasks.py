"""Sources by configuration, held-out questions, the resumable stream, and building task files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.config import EnvConfig
from env.data_build import build
from env.errors import UserError
from env.task_files import ParquetSource, save_tasks
from env.tasks import Subset, TaskStream, hold_out, make_source, permuted
from env.types import Question, Task
from tests.env.qa_samples import hotpot, musique, write_json


def config_of(path: str, task: str = "hotpotqa", **values: Any) -> EnvConfig:
    haystack = {"documents": 20, "questions_max": 3, **values.pop("haystack", {})}
    return EnvConfig(task=task, data=path, haystack=haystack, **values)


def questions_of(source) -> set[str]:
    return {question.text for task in source for question in task.questions}


def test_without_eval_data_the_last_tenth_is_held_out_with_its_questions(tmp_path: Path) -> None:
    records = [hotpot(i) for i in range(40)]
    records[5]["question"] = "what is FACT 38"  # the same question as record 38, which is held out
    config = config_of(write_json(tmp_path / "d.json", records))
    train, held_out = make_source(config, "train", 0), make_source(config, "eval", 0)
    assert (len(train), len(held_out)) == (35, 4)
    assert questions_of(held_out) == {f"What is fact {i}?" for i in range(36, 40)}
    assert "what is FACT 38" not in questions_of(train)
    assert questions_of(train).isdisjoint(questions_of(held_out))


def test_eval_data_leaves_all_of_the_data_to_train(tmp_path: Path) -> None:
    path = write_json(tmp_path / "train.jsonl", [musique(i) for i in range(20)])
    eval_path = write_json(tmp_path / "dev.jsonl.gz", [musique(i) for i in range(20, 26)])
    config = config_of(path, "musique", eval_data=eval_path)
    assert len(make_source(config, "train", 0)) == 20
    held_out = make_source(config, "eval", 0)
    assert questions_of(held_out) == {f"What is part {i}?" for i in range(20, 26)}
    assert all("of 2" in unit for task in held_out for unit in task.units)  # and its own documents


def test_skipped_records_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_json(tmp_path / "d.json", [*(hotpot(i) for i in range(20)), {"_id": "bad"}])
    corpus = write_json(tmp_path / "c.json", [{"title": f"C{i}", "text": f"c {i}"} for i in range(30)] + [{}])
    with pytest.raises(UserError, match=r"record 21 \(id bad\): field 'question' is missing"):
        make_source(config_of(path), "train", 0)
    haystack = {"corpus": corpus, "skip_bad": True, "questions_max": 1}
    assert make_source(config_of(path, haystack=haystack), "train", 0).skipped == 2
    assert "skipped 1 of 21 records" in caplog.text


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    config = config_of(write_json(tmp_path / "d.json", [hotpot(i) for i in range(20)]))
    assert len(make_source(config, "train", 0)) == 18
    write_json(tmp_path / "d.json", [hotpot(i) for i in range(30)])
    assert len(make_source(config_of(config.data), "train", 0)) == 27


def test_data_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="env.data is not set: task 'musique'"):
        make_source(EnvConfig(task="musique"), "train", 0)
    with pytest.raises(UserError, match="leaves none to train on"):
        make_source(config_of(write_json(tmp_path / "d.json", [hotpot(1)])), "train", 0)


def test_the_registry_needs_no_data() -> None:
    train, held_out = (make_source(EnvConfig(), split, 0) for split in ("train", "eval"))
    assert train[0] == make_source(EnvConfig(), "train", 0)[0]
    assert train[0].units != held_out[0].units


def test_parquet_tasks_hold_out_questions_too(tmp_path: Path) -> None:
    def task(number: int, *questions: int) -> Task:
        return Task(f"t{number}", ("u",), tuple(Question(f"q {q}", ("a",)) for q in questions))

    # the last two of 20 are held out (questions 18, 19); tasks 3 and 4 ask one of those
    tasks = [task(i, i) for i in range(20)]
    tasks[3], tasks[4] = task(3, 3, 19), task(4, 18)
    path = tmp_path / "tasks.parquet"
    save_tasks(tasks, path)
    config = EnvConfig(task="parquet", data=str(path))
    assert [t.task_id for t in make_source(config, "eval", 0)] == ["t18", "t19"]
    train = make_source(config, "train", 0)
    assert [t.task_id for t in train] == [f"t{i}" for i in range(18) if i not in (3, 4)]
    with pytest.raises(IndexError):
        train[16]
    both = EnvConfig(task="parquet", data=str(path), eval_data=str(path))
    assert len(make_source(both, "train", 0)) == len(make_source(both, "eval", 0)) == 20


@given(st.lists(st.frozensets(st.integers(0, 60).map(str), min_size=1, max_size=2), max_size=60))
def test_no_question_is_on_both_sides(questions: list[frozenset[str]]) -> None:
    try:
        split = hold_out(questions, "data")
    except UserError:
        return
    assert len(split["eval"]) == max(1, round(len(questions) / 10))
    held = frozenset().union(*(questions[i] for i in split["eval"]))
    for index in range(len(questions) - len(split["eval"])):
        assert (index in split["train"]) == held.isdisjoint(questions[index])


@given(st.integers(1, 700), st.binary(min_size=1, max_size=80))
@settings(deadline=None)
def test_permutations_are_bijections(size: int, key: bytes) -> None:
    assert sorted(permuted(index, size, key) for index in range(size)) == list(range(size))


def test_permutations_are_spread_evenly() -> None:
    orders = Counter(tuple(permuted(i, 3, b"%d" % key) for i in range(3)) for key in range(6000))
    assert len(orders) == 6
    assert all(count == pytest.approx(1000, abs=150) for count in orders.values())
    assert 0 <= permuted(10**11, 10**12, b"k") < 10**12  # in constant memory


class Numbers:
    """A source whose tasks are named by their index."""

    def __len__(self) -> int:
        return 25

    def __getitem__(self, index: int) -> Task:
        return Task(str(index), ("u",), (Question("q", ("a",)),))


def test_the_stream_gives_every_task_once_per_epoch_in_a_fresh_order() -> None:
    stream = TaskStream(Numbers(), seed=1)
    epochs = [[stream.at(25 * epoch + i).task_id for i in range(25)] for epoch in range(4)]
    assert all(sorted(map(int, epoch)) == list(range(25)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert epochs[0] != [TaskStream(Numbers(), seed=2).at(i).task_id for i in range(25)]
    with pytest.raises(ValueError, match="-1"):
        stream.at(-1)


@given(st.integers(0, 10**9))
def test_the_position_is_the_streams_only_state(position: int) -> None:
    used = TaskStream(Numbers(), seed=1)
    for earlier in range(max(0, position - 3), position):
        used.at(earlier)
    assert used.at(position) == TaskStream(Numbers(), seed=1).at(position)


def test_subset_keeps_the_order() -> None:
    assert [task.task_id for task in Subset(Numbers(), [7, 3])] == ["7", "3"]


def test_build_writes_the_first_tasks_of_the_stream(tmp_path: Path) -> None:
    config = config_of(write_json(tmp_path / "d.json", [hotpot(i) for i in range(30)]))
    out = tmp_path / "built" / "tasks.parquet"
    summary = build(config, out, tasks=12, seed=5, split="train")
    stream = TaskStream(make_source(config, "train", 5), 5)
    built = ParquetSource(out)
    assert list(built) == [stream.at(i) for i in range(12)]
    assert summary["content_hash"] == built.content_hash
    assert (summary["tasks"], summary["units"], summary["skipped"]) == (12, 240, 0)
    assert summary["questions"] == sum(len(task.questions) for task in built)
    assert summary["characters"] == sum(len(unit) for task in built for unit in task.units)
    json.dumps(summary)
    again = build(config, tmp_path / "again.parquet", tasks=12, seed=5, split="train")
    assert again["content_hash"] == summary["content_hash"]


@pytest.mark.parametrize("tasks", [0, 28])
def test_build_never_repeats_a_task(tmp_path: Path, tasks: int) -> None:
    config = config_of(write_json(tmp_path / "d.json", [hotpot(i) for i in range(30)]))
    with pytest.raises(UserError, match=f"tasks = {tasks}: the train split of .* gives 1 to 27"):
        build(config, tmp_path / "out.parquet", tasks=tasks, seed=0, split="train")
    assert not (tmp_path / "out.parquet").exists()
