"""Causal language models and state-space models."""

from __future__ import annotations

from typing import Any

from .hub import sized, tokens


def _prompt(batch: int) -> dict[str, Any]:
    return {"input_ids": tokens(batch), "use_cache": False}


def _causal(architecture: str, **config: Any) -> Any:
    return sized(architecture, _prompt, "ForCausalLM", **config)


_GROUPED = {"num_key_value_heads": 2}
_HEADS = {**_GROUPED, "head_dim": 8}

BUILDERS = {
    "gpt2": sized("GPT2", _prompt, "LMHeadModel", n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt-neo": _causal(
        "GPTNeo", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
    ),
    "gpt-neox": _causal("GPTNeoX"),
    "gptj": _causal("GPTJ", n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64),
    "codegen": _causal("CodeGen", n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64),
    "llama": _causal("Llama", **_GROUPED),
    "mistral": _causal("Mistral", **_GROUPED, sliding_window=8),
    "mixtral": _causal("Mixtral", **_GROUPED, num_local_experts=4),
    "qwen2": _causal("Qwen2", **_GROUPED),
    "qwen3": _causal("Qwen3", **_HEADS),
    "gemma": _causal("Gemma", **_HEADS),
    "gemma2": _causal("Gemma2", **_HEADS, sliding_window=8),
    "phi": _causal("Phi"),
    "phi3": _causal("Phi3", **_GROUPED),
    "opt": _causal("OPT", ffn_dim=64, word_embed_proj_dim=32),
    "falcon": _causal("Falcon"),
    "bloom": _causal("Bloom", n_layer=2, n_head=4),
    "mpt": _causal("Mpt", d_model=32, n_heads=4, n_layers=2, max_seq_len=64),
    "stablelm": _causal("StableLm", **_GROUPED),
    "olmo": _causal("Olmo"),
    "starcoder2": _causal("Starcoder2", **_GROUPED),
    "mamba": _causal("Mamba", state_size=4),
    "mamba2": _causal("Mamba2", state_size=4, num_heads=8, head_dim=8, n_groups=1, chunk_size=8),
    "rwkv": _causal("Rwkv", attention_hidden_size=32),
}
