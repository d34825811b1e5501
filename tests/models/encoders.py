"""Text encoders."""

from __future__ import annotations

from .hub import VOCABULARY, entry, sized, text

_XLNET = {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}

BUILDERS = {
    "bert": sized("Bert"),
    "bert-eager-attention": sized("Bert", attn_implementation="eager"),
    "roberta": sized("Roberta"),
    "distilbert": sized("DistilBert", dim=32, n_heads=4, n_layers=2, hidden_dim=64),
    "deberta-v2": sized(
        "DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8
    ),
    "electra": sized("Electra", embedding_size=16),
    "albert": sized("Albert", embedding_size=16),
    "mpnet": sized("MPNet"),
    "squeezebert": sized("SqueezeBert", embedding_size=32),
    "xlnet": entry("XLNet", text, **_XLNET),
    "fnet": sized("FNet", arguments=lambda n: {"input_ids": text(n)["input_ids"]}),
    "convbert": sized("ConvBert", embedding_size=32),
    "modernbert": sized(
        "ModernBert", global_attn_every_n_layers=2, local_attention=8, reference_compile=False
    ),
}
