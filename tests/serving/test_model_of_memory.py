"""Random interleaved sessions of two tenants against a model of what each memory must hold."""

import asyncio
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.serving.agent import SessionAgent
from cluster.serving.config import DatabaseConfig
from cluster.serving.database import Database
from cluster.serving.errors import Conflict, NotFound, Unavailable
from cluster.serving.repository import Repository
from env.embedding import BatchedEmbedder, make_embedder
from env.operations import Create, Delete, Scratchpad, Update
from tests.serving.scripted import ScriptedPolicy

PLACES = [(who, where) for who in ("Anna", "Leo", "Zoe") for where in ("Solaria", "Nimbus")]
FACTS = st.sampled_from([f"{who} Berg works at {where} ." for who, where in PLACES])
KINDS = st.sampled_from(["create", "update", "delete", "pad"])
CAPACITY = 6


class Memories(RuleBasedStateMachine):
    """Two tenants, several sessions, two replicas; every operation goes to a random replica."""

    config = tokenizer = None

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.loop = asyncio.new_event_loop()
        url = f"sqlite+aiosqlite:///{self.folder}/model.db"
        self.database = Database(DatabaseConfig(url=url, synchronous="NORMAL"))
        self.run(self.database.migrate())
        self.policy = ScriptedPolicy(self.tokenizer)
        parts = (self.config, self.database, self.tokenizer)
        self.agents = [
            SessionAgent(*parts, BatchedEmbedder(make_embedder(self.config.env.embedder)), self.policy)
            for _ in range(2)
        ]
        self.model: dict[tuple[str, str], tuple[dict[int, str], str, int, int]] = {}

    def run(self, call):
        return self.loop.run_until_complete(asyncio.wait_for(call, 60))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.database.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    def pick(self, data):
        chosen = list(self.model)[data.draw(st.integers(0, len(self.model) - 1))]  # ids are random, places are not
        return chosen, self.agents[data.draw(st.integers(0, 1))]

    @rule(tenant=st.sampled_from("ab"))
    def create(self, tenant) -> None:
        options = {"focus": [], "capacity": CAPACITY}
        row = self.run(Repository(self.database, tenant).create_session("", options, 100))
        self.model[tenant, row.id] = ({}, "", 1, 0)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), facts=st.lists(FACTS, min_size=1, max_size=4), fails=st.booleans())
    def read(self, data, facts, fails) -> None:
        (tenant, session), agent = self.pick(data)
        document = self.run(agent.add_document(tenant, session, "\n".join(facts), "", None, False))
        assert document.chunks == len(facts)

        async def drain(reader):
            return [event async for event in reader.read(tenant, session, document.number)]

        if fails:
            self.policy.broken = True
            with pytest.raises(Unavailable):
                self.run(drain(agent))
            self.policy.broken = False
        self.run(drain(self.agents[data.draw(st.integers(0, 1))]))
        entries, _, next_id, version = self.model[tenant, session]
        for fact in facts:
            version += 1
            if len(entries) < CAPACITY:
                entries = {**entries, next_id: fact}
                next_id += 1
        self.model[tenant, session] = (entries, facts[-1], next_id, version)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), content=FACTS, entry=st.integers(1, 8), kind=KINDS)
    def edit(self, data, content, entry, kind) -> None:
        (tenant, session), agent = self.pick(data)
        entries, pad, next_id, version = self.model[tenant, session]
        edits = {"create": Create(content), "update": Update(entry, content), "delete": Delete(entry)}
        change = agent.edit(tenant, session, edits.get(kind, Scratchpad(content)), version)
        if kind == "create" and len(entries) >= CAPACITY:
            with pytest.raises(Conflict, match="full"):
                self.run(change)
            return
        if kind in ("update", "delete") and entry not in entries:
            with pytest.raises(NotFound):
                self.run(change)
            return
        self.run(change)
        entries = dict(entries)
        if kind == "create":
            entries[next_id], next_id = content, next_id + 1
        elif kind == "update":
            entries[entry] = content
        elif kind == "delete":
            del entries[entry]
        self.model[tenant, session] = (entries, content if kind == "pad" else pad, next_id, version + 1)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), question=FACTS)
    def ask(self, data, question) -> None:
        (tenant, session), agent = self.pick(data)
        entries, pad, next_id, version = self.model[tenant, session]

        async def asked():
            return [event async for event in agent.ask(tenant, session, question, True)][-1].data

        answer = self.run(asked())
        assert {entry.content for entry in answer.entries} <= set(entries.values())
        assert (answer.answer == "nowhere") == (not entries)
        self.model[tenant, session] = (entries, pad, next_id, version + 1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def fork(self, data) -> None:
        (tenant, session), _ = self.pick(data)
        row = self.run(Repository(self.database, tenant).fork_session(session, None, 100))
        self.model[tenant, row.id] = self.model[tenant, session]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data) -> None:
        (tenant, session), _ = self.pick(data)
        self.run(Repository(self.database, tenant).delete_session(session))
        del self.model[tenant, session]

    @invariant()
    def every_memory_is_as_the_model_says(self) -> None:
        for (tenant, session), (entries, pad, _, version) in getattr(self, "model", {}).items():
            repository = Repository(self.database, tenant)
            row, found = self.run(repository.list_entries(session, 0, 100))
            assert ({e.entry_id: e.content for e in found}, row.scratchpad, row.version) == (entries, pad, version)
            past = self.run(repository.past(session, version, 0, 100))
            assert (past[0], {e.entry_id: e.content for e in past[1]}) == (pad, entries)
            with pytest.raises(NotFound):
                self.run(Repository(self.database, "other").session(session))


def test_interleaved_sessions_agree_with_the_model(config, tokenizer):
    Memories.config, Memories.tokenizer = config, tokenizer
    limits = settings(
        max_examples=12, stateful_step_count=12, database=None, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Memories, settings=limits)
