"""The methods by name. A method of your own needs no entry here: name it as `package.module:Class`."""

from __future__ import annotations

METHODS: dict[str, str] = {
    "atommem": "evaluation.methods.atommem:atommem",
    "memagent": "evaluation.methods.memagent:MemAgent",
    "rag": "evaluation.methods.rag:Rag",
    "rag-bm25": "evaluation.methods.rag:BM25Rag",
    "rag-hybrid": "evaluation.methods.rag:HybridRag",
    "full-context": "evaluation.methods.full_context:FullContext",
    "a-mem": "evaluation.methods.a_mem:AMem",
    "generative-agents": "evaluation.methods.generative_agents:GenerativeAgents",
    "mem0": "evaluation.methods.mem0:Mem0",
}
