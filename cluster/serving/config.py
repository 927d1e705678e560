"""The configuration of the endpoint: what `serve deploy` passes to `cluster.serving.application:build`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from env.config import EnvConfig, Section
from rollout.config import EngineConfig, SamplingConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HttpConfig(Section):
    """Where the endpoint listens. Without API keys it must be the loopback."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    keys: bool = Field(False, description="ask for an API key (`atommem keys create`); a key belongs to a tenant")


class DatabaseConfig(Section):
    """Where sessions live. One node: SQLite; several nodes: PostgreSQL."""

    url: str = Field(
        "sqlite+aiosqlite:///atommem.db",
        description="sqlite+aiosqlite:///file, or postgresql+asyncpg://user@host/name",
        pattern=r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://",
    )
    pool_size: int = Field(8, ge=1, description="connections per replica")
    timeout_s: float = Field(5.0, gt=0, description="a database silent for this long counts as down")
    synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL", description="SQLite; FULL: what is acknowledged outlives a power cut, NORMAL: a killed process"
    )


class LimitsConfig(Section):
    """What one request or one tenant may take; beyond it: 413, 422, 429 or 503."""

    body_mb: float = Field(8.0, gt=0)
    document_tokens: int = Field(500_000, ge=1)
    question_tokens: int = Field(512, ge=1)
    entry_tokens: int = Field(1024, ge=1, description="an entry written by hand")
    sessions: int = Field(1000, ge=1, description="per tenant")
    entries: int = Field(100_000, ge=1, description="per session, whatever its own capacity")
    documents: int = Field(10_000, ge=1, description="per session")
    requests_per_minute: int = Field(600, ge=1, description="per tenant and ingress replica")
    requests_in_flight: int = Field(256, ge=1, description="per ingress replica")


class ReplicasConfig(Section):
    """How many replicas a deployment has, and what each takes."""

    min: int = Field(1, ge=1)
    max: int = Field(1, ge=1)
    num_cpus: float = Field(0.1, ge=0)
    target_ongoing_requests: int = Field(32, ge=1, description="Serve adds replicas above this many each")

    @model_validator(mode="after")
    def _in_order(self) -> ReplicasConfig:
        if self.max < self.min:
            raise ValueError(f"max ({self.max}) is smaller than min ({self.min})")
        return self


class ServingConfig(Section):
    """One endpoint. `env` is what the policy was trained with: serving runs the same environment and prompts."""

    model: str = Field(description="checkpoint: a Hugging Face folder that every node can read, or a hub name")
    name: str = Field("atommem", pattern=r"^[\w.-]+$", description="of the model, as /v1/models shows it")
    env: EnvConfig = EnvConfig()
    prompts: list[str] = Field([], description="further prompts that a session may choose")
    sampling: SamplingConfig = SamplingConfig(temperature=0.0, max_new_tokens=1024)
    engine: EngineConfig = EngineConfig()
    http: HttpConfig = HttpConfig()
    database: DatabaseConfig = DatabaseConfig()
    limits: LimitsConfig = LimitsConfig()
    ingress_replicas: ReplicasConfig = ReplicasConfig()
    agent_replicas: ReplicasConfig = ReplicasConfig()
    engine_replicas: ReplicasConfig = Field(ReplicasConfig(), description="num_cpus is taken from `engine`")
    live_sessions: int = Field(1000, ge=1, description="sessions that an agent replica keeps in memory")
    resume_after_s: float = Field(
        15.0, gt=0, description="a background document without progress for this long is taken up by any replica"
    )

    @model_validator(mode="after")
    def _fits_the_window(self) -> ServingConfig:
        room = self.engine.max_model_len - self.sampling.max_new_tokens
        shown = self.env.chunk_tokens + self.env.scratchpad_tokens
        if shown >= room:
            raise ValueError(
                f"env.chunk_tokens + env.scratchpad_tokens = {shown} do not fit into the prompt: "
                f"engine.max_model_len - sampling.max_new_tokens = {room}"
            )
        return self

    @model_validator(mode="after")
    def _private_without_keys(self) -> ServingConfig:
        if not self.http.keys and self.http.host not in LOOPBACK:
            raise ValueError(
                f"http.host is {self.http.host!r} and http.keys is off: without API keys the endpoint listens on the "
                "loopback only (set http.keys: true and make a key with `atommem keys create`)"
            )
        return self
