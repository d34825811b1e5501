"""Speech."""

from __future__ import annotations

from typing import Any

import torch

from .hub import sized, tokens


def _wave(batch: int) -> dict[str, Any]:
    return {"input_values": torch.randn(batch, 800)}


def _spectrum(batch: int) -> dict[str, Any]:
    return {
        "input_features": torch.randn(batch, 16, 40),
        "decoder_input_ids": tokens(batch, 6),
        "use_cache": False,
    }


_CONVOLUTIONS = {
    "conv_dim": [16, 16, 16],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
_WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 20,
    "decoder_start_token_id": 1,
}

BUILDERS = {
    "wav2vec2": sized("Wav2Vec2", _wave, **_CONVOLUTIONS),
    "hubert": sized("Hubert", _wave, **_CONVOLUTIONS),
    "whisper": sized("Whisper", _spectrum, **_WHISPER),
    "audio-spectrogram-transformer": sized(
        "AST", lambda n: {"input_values": torch.randn(n, 32, 16)}, max_length=32, num_mel_bins=16
    ),
}
