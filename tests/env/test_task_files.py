"""Tasks on disk: the same tasks come back, and a file that is not what it was is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from env.errors import UserError
from env.task_files import HASH_KEY, SCHEMA, ParquetSource, save_tasks
from env.types import Question, Task

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
QUESTIONS = st.builds(Question, TEXT, st.lists(TEXT, min_size=1, max_size=3).map(tuple), TEXT)
METADATA = st.dictionaries(
    TEXT, st.none() | st.integers() | TEXT | st.lists(st.integers(), max_size=3), max_size=3
)
TASKS = st.builds(
    Task,
    TEXT,
    st.lists(TEXT, min_size=1, max_size=4).map(tuple),
    st.lists(QUESTIONS, min_size=1, max_size=3).map(tuple),
    METADATA,
)


def make_tasks(count: int = 20) -> list[Task]:
    return [
        Task(f"t{i}", (f"unit {i}", "más"), (Question(f"q{i}?", ("a", "b"), "k"),), {"i": [i]})
        for i in range(count)
    ]


@given(st.lists(TASKS, min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_what_was_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> None:
    path = tmp_path_factory.mktemp("tasks") / "tasks.parquet"
    content_hash = save_tasks(tasks, path)
    source = ParquetSource(path)
    assert [source[i] for i in reversed(range(len(source)))] == tasks[::-1]
    assert source.content_hash == content_hash


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    tasks = make_tasks()
    same = {save_tasks(tasks, tmp_path / "a.parquet"), save_tasks(iter(tasks), tmp_path / "b.parquet")}
    assert len(same) == 1
    assert save_tasks(tasks[::-1], tmp_path / "c.parquet") not in same
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "c.parquet"]


def test_an_existing_file_is_left_alone_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tasks.parquet"
    path.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        save_tasks(make_tasks(), path)
    assert path.read_text() == "precious"

    def breaks_off():
        yield from make_tasks(10)
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        save_tasks(breaks_off(), tmp_path / "new" / "tasks.parquet")
    assert list((tmp_path / "new").iterdir()) == []


def _rewrite(path: Path, change, metadata: dict[bytes, bytes] | None = None) -> None:
    """Replace the rows by changed ones, under the old hash or another."""
    rows = change(pq.read_table(path).to_pylist())
    old = metadata if metadata is not None else {HASH_KEY: pq.ParquetFile(path).metadata.metadata[HASH_KEY]}
    with pq.ParquetWriter(path, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        writer.add_key_value_metadata(old)


def test_an_edited_file_is_refused_unless_it_states_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "tasks.parquet"
    save_tasks(make_tasks(), path)
    _rewrite(path, lambda rows: rows[:-1])
    with pytest.raises(UserError, match="does not match its hash"):
        ParquetSource(path)
    _rewrite(path, lambda rows: rows, metadata={})
    assert len(ParquetSource(path)) == 19  # made by other means: there is nothing to check it against


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("units", [], "task 't1': 'units' is empty"),
        ("units", None, "task 't1': a value is missing"),
        ("questions", [], "task 't1': 'questions' is empty"),
        ("questions", [{"text": "q", "answers": [], "kind": ""}], "task 't1': a question without an answer"),
        ("metadata", "{", "task 't1': a value is missing or malformed"),
    ],
)
def test_a_row_that_is_no_task_is_named(tmp_path: Path, column: str, value: object, message: str) -> None:
    path = tmp_path / "tasks.parquet"
    save_tasks(make_tasks(), path)
    _rewrite(path, lambda rows: [*rows[:1], {**rows[1], column: value}], metadata={})
    with pytest.raises(UserError, match=message):
        ParquetSource(path)


def test_files_that_are_no_task_files(tmp_path: Path) -> None:
    path = tmp_path / "tasks.parquet"
    with pytest.raises(UserError, match="does not exist"):
        ParquetSource(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="not a readable parquet file"):
        ParquetSource(path)
    path.unlink()
    pq.write_table(pa.table({"task_id": ["x"], "units": [["u"]]}), path)
    with pytest.raises(UserError, match="has no column metadata, questions"):
        ParquetSource(path)
    path.unlink()
    save_tasks([], path)
    with pytest.raises(UserError, match="holds no tasks"):
        ParquetSource(path)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.parquet"
    save_tasks(make_tasks(), path)
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="damaged|malformed|missing"):
        ParquetSource(path)
