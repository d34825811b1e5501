"""Encoder-decoders for text."""

from __future__ import annotations

from typing import Any

from .hub import sized, text, tokens


def _pair(batch: int) -> dict[str, Any]:
    return {**text(batch), "decoder_input_ids": tokens(batch, 10), "use_cache": False}


_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 1,
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

BUILDERS = {
    "t5": sized("T5", _pair, **_T5),
    "mt5": sized("MT5", _pair, **_T5, feed_forward_proj="gated-gelu"),
    "bart": sized("Bart", _pair, **_BART),
    "marian": sized("Marian", _pair, **_BART),
    "pegasus": sized("Pegasus", _pair, **_BART),
    "m2m100": sized("M2M100", _pair, **_BART),
}
