"""The store against a plain dict with brute-force search, after any sequence of operations."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from env.memory import LogItem, MemoryStore

DIM = 8
contents = st.text(max_size=5)
ids = st.integers(1, 12)
seeds = st.integers(0, 2**31)


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


class StoreMachine(RuleBasedStateMachine):
    @initialize(capacity=st.sampled_from([None, 3]))
    def start(self, capacity):
        self.store, self.capacity = MemoryStore(DIM, capacity), capacity
        self.model: dict[int, tuple[str, np.ndarray]] = {}
        self.created, self.discarded = 0, 0

    @rule(content=contents, seed=seeds)
    def create(self, content, seed):
        entry_id = self.store.create(content, unit(seed))
        if self.capacity is not None and len(self.model) >= self.capacity:
            assert entry_id is None
            self.discarded += 1
        else:
            self.created += 1
            assert entry_id == self.created  # never reused
            self.model[entry_id] = (content, unit(seed))

    @rule(entry_id=ids, content=contents, seed=seeds)
    def update(self, entry_id, content, seed):
        assert self.store.update(entry_id, content, unit(seed)) == (entry_id in self.model)
        if entry_id in self.model:
            self.model[entry_id] = (content, unit(seed))

    @rule(entry_id=ids)
    def delete(self, entry_id):
        assert self.store.delete(entry_id) == (self.model.pop(entry_id, None) is not None)

    @rule(seed=seeds, k=st.integers(1, 15))
    def search(self, seed, k):
        found = self.store.search(unit(seed), k)
        scores = {i: float(vector @ unit(seed)) for i, (_, vector) in self.model.items()}
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose([entry.score for entry in found], best, atol=1e-5)
        for entry in found:
            assert entry.content == self.model[entry.entry_id][0]
            assert abs(entry.score - scores[entry.entry_id]) < 1e-5

    @rule()
    def snapshot_and_restore(self):
        copy = MemoryStore(DIM, self.capacity)
        copy.restore(self.store.snapshot())
        self.store = copy

    @invariant()
    def same_entries(self):
        if hasattr(self, "store"):
            assert dict(self.store.entries) == {i: content for i, (content, _) in self.model.items()}
            assert len(self.store) == len(self.model)
            assert self.store.discarded == self.discarded


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase


def test_the_log_tells_every_change_in_order():
    store = MemoryStore(DIM, capacity=1)
    store.create("a", unit(1))
    store.create("b", unit(2))
    store.update(1, "c", unit(3))
    store.write_scratchpad("note")
    store.delete(1)
    assert store.log == [
        LogItem("create", 1, "a"),
        LogItem("discard", None, "b"),
        LogItem("update", 1, "c"),
        LogItem("scratchpad", None, "note"),
        LogItem("delete", 1, "c"),
    ]


def test_a_snapshot_is_not_touched_by_later_changes():
    store = MemoryStore(DIM)
    store.create("a", unit(1))
    state = store.snapshot()
    store.delete(1)
    store.restore(state)
    assert dict(store.entries) == {1: "a"}
    assert store.search(unit(1), 1)[0].score == pytest.approx(1.0)


def test_wrong_dimensions_are_refused_by_name():
    store = MemoryStore(DIM)
    with pytest.raises(ValueError, match="vector: 3 dimensions, this store has 8"):
        store.create("a", np.ones(3, np.float32))
    with pytest.raises(ValueError, match="vectors: shape"):
        store.restore({**store.snapshot(), "entries": {1: "a"}})
