"""Architectures written here: recurrent, recommendation, state-space, U-Nets, graphs, GPT."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .zoo import Builder, Entry


class Recurrent(nn.Module):
    """Embedding, a recurrent network of two layers, a linear head."""

    def __init__(self, kind: type[nn.RNNBase], **more: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.rnn = kind(16, 24, num_layers=2, batch_first=True, **more)
        self.head = nn.LazyLinear(50)
        self(torch.zeros(1, 3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0])


class Cells(nn.Module):
    """An LSTM cell in a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], 16)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        return self.head(h)


class Recommender(nn.Module):
    """As DLRM: embedding bags and a dense tower, their dot products, another tower."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(40, 8, mode="sum") for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8))
        self.top = nn.Sequential(nn.Linear(8 + 6, 16), nn.ReLU(), nn.Linear(16, 1))
        pairs = torch.tril_indices(4, 4, -1)
        self.register_buffer("rows", pairs[0])
        self.register_buffer("columns", pairs[1])

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        features = [x] + [bag(sparse[:, n]) for n, bag in enumerate(self.bags)]
        t = torch.stack(features, 1)
        products = (t @ t.transpose(1, 2))[:, self.rows, self.columns]
        return torch.sigmoid(self.top(torch.cat([x, products], 1)))


class SelectiveScan(nn.Module):
    """A Mamba-like block: a gated, input-dependent linear recurrence over the sequence."""

    def __init__(self, width: int = 16, state: int = 4) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 2 * width)
        self.conv = nn.Conv1d(width, width, 3, padding=2, groups=width)
        self.steps = nn.Linear(width, width)
        self.mix = nn.Linear(width, 2 * state)
        self.rates = nn.Parameter(torch.randn(width, state))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.inner(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        delta = F.softplus(self.steps(u))
        b, c = self.mix(u).chunk(2, -1)
        decay = torch.exp(-delta[..., None] * self.rates.exp())
        push = delta[..., None] * b[:, :, None] * u[..., None]
        state = torch.zeros_like(push[:, 0])
        rows = []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + push[:, t]
            rows.append((state * c[:, t, None]).sum(-1))
        return self.out(torch.stack(rows, 1) * F.silu(gate))


class Block(nn.Module):
    """Two convolutions with group norm; a time embedding is added between them if there is one."""

    def __init__(self, i: int, o: int, time: int = 0) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        self.norm = nn.GroupNorm(4, o)
        self.time = nn.Linear(time, o) if time else None
        self.skip = nn.Conv2d(i, o, 1)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        y = self.a(F.silu(x))
        if self.time is not None and t is not None:
            y = y + self.time(t)[:, :, None, None]
        return self.skip(x) + self.b(F.silu(self.norm(y)))


class UNet(nn.Module):
    """Down and up again with skips; with attention and a time embedding it is a diffusion model."""

    def __init__(self, time: int = 0) -> None:
        super().__init__()
        self.width = time
        self.d1, self.d2 = Block(3, 8, time), Block(8, 16, time)
        self.middle = Block(16, 16, time)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True) if time else None
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.u1, self.out = Block(32, 8, time), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        e = None
        if t is not None:
            rates = torch.exp(torch.arange(self.width // 2) * (-math.log(1e4) / self.width))
            e = torch.cat([(t[:, None] * rates).sin(), (t[:, None] * rates).cos()], -1)
        a = self.d1(x, e)
        b = self.d2(F.avg_pool2d(a, 2), e)
        m = self.middle(F.max_pool2d(b, 2), e)
        if self.attention is not None:
            flat = m.flatten(2).transpose(1, 2)
            m = m + self.attention(flat, flat, flat)[0].transpose(1, 2).reshape(m.shape)
        c = self.u1(torch.cat([self.up(m), b], 1), e)
        c = F.interpolate(c, scale_factor=2, mode="bilinear")
        return self.out(torch.cat([c, a], 1))


class Graph(nn.Module):
    """Graph convolutions by index_add over edges."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 12), nn.Linear(12, 3)])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for layer in self.layers:
            messages = layer(x)[edges[0]]
            x = torch.zeros(x.shape[0], messages.shape[1]).index_add(0, edges[1], messages)
            x = F.elu(x)
        return x.log_softmax(-1)


class GPT(nn.Module):
    """A small GPT without dropout."""

    def __init__(self, vocabulary: int = 50, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(64, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for block in self.blocks:
            h = block(h, src_mask=mask, is_causal=True)
        return self.head(self.norm(h))


def _entry(build: Callable[[], nn.Module], **arguments: Callable[[int], Tensor]) -> Builder:
    return lambda: Entry(build(), lambda n: {k: make(n) for k, make in arguments.items()})


def _pixels(n: int) -> Tensor:
    return torch.randn(n, 3, 16, 16)


def _words(n: int) -> Tensor:
    return torch.randint(50, (n, 12))


def _signal(n: int) -> Tensor:
    return torch.randn(n, 10, 16)


BUILDERS = {
    "lstm": _entry(lambda: Recurrent(nn.LSTM), x=_words),
    "lstm-bidirectional": _entry(lambda: Recurrent(nn.LSTM, bidirectional=True), x=_words),
    "gru": _entry(lambda: Recurrent(nn.GRU), x=_words),
    "lstm-cells": _entry(Cells, x=lambda n: torch.randn(n, 6, 8)),
    "dlrm": _entry(
        Recommender,
        dense=lambda n: torch.randn(n, 5),
        sparse=lambda n: torch.randint(40, (n, 3, 4)),
    ),
    "selective-scan": _entry(SelectiveScan, x=_signal),
    "unet": _entry(UNet, x=_pixels),
    "diffusion-unet": _entry(lambda: UNet(16), x=_pixels, t=lambda n: torch.rand(n)),
    "graph-convolution": _entry(
        Graph,
        x=lambda n: torch.randn(5 * n, 6),
        edges=lambda n: torch.randint(5 * n, (2, 12 * n)),
    ),
    "small-gpt": _entry(GPT, x=_words),
    "transformer": _entry(
        lambda: nn.Transformer(16, 4, 2, 2, 32, 0.0, batch_first=True), src=_signal, tgt=_signal
    ),
}
