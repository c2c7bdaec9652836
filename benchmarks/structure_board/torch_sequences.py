"""Hand-written PyTorch networks of sequences: recurrence, and attention in the ways in which people write it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.structure_board.cases import Case

TOKENS, WIDTH, HEADS = 50, 32, 4


class Recurrent(nn.Module):
    """A recurrent layer between a projection and a head that reads the last step."""

    def __init__(self, kind: type[nn.RNNBase], **options: bool | int) -> None:
        super().__init__()
        self.stem, self.recurrent = nn.Linear(8, 24), kind(24, 32, batch_first=True, **options)
        self.head = nn.Linear(64 if options.get("bidirectional") else 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.stem(x))[0][:, -1])


class EinsumAttention(nn.Module):
    """Heads and features are labels of an einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        query, key, value = (part(x).view(batch, time, HEADS, -1) for part in (self.query, self.key, self.value))
        weights = (torch.einsum("bthd,bshd->bhts", query, key) / 3).softmax(-1)
        return self.head(torch.einsum("bhts,bshd->bthd", weights, value).reshape(batch, time, -1))


class FusedAttention(nn.Module):
    """One kernel for queries, keys and values, as in timm's ViT."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        qkv = self.qkv(x).reshape(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = ((query @ key.transpose(-2, -1)) * 0.35).softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, time, -1))


class FusedBlock(nn.Module):
    """A pre-norm block around fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 10)
        self.attention, self.norms = FusedAttention(), nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.attention(self.norms[0](x))
        x = x + self.down(functional.gelu(self.up(self.norms[1](x))))
        return self.head(self.norms[2](x).mean(1))


class GroupedQueries(nn.Module):
    """Each head of keys and values serves two heads of queries; rotary positions; RMSNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(TOKENS, WIDTH), nn.Linear(WIDTH, TOKENS, bias=False)
        self.query, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(WIDTH, WIDTH // 2, bias=False) for _ in range(2))
        self.first, self.last = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        y = self.first(x)
        shape = (*x.shape[:2], -1, WIDTH // HEADS)
        query, key, value = (part(y).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(
            _rotated(query), _rotated(key), value, is_causal=True, enable_gqa=True
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(*x.shape[:2], -1))
        return self.head(self.last(x))


def _rotated(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * 10.0 ** -torch.arange(half, dtype=x.dtype)
    cosine, sine = (function(torch.cat([angles, angles], -1)) for function in (torch.cos, torch.sin))
    return x * cosine + torch.cat([-x[..., half:], x[..., :half]], -1) * sine


class MultiheadAttention(nn.Module):
    """PyTorch's own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Linear(8, WIDTH), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.up, self.head = nn.Linear(WIDTH, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.up(x).relu())


class Encoder(nn.Module):
    """PyTorch's own encoder."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 128, batch_first=True, norm_first=True)
        self.stem, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 10)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.stem(x)).mean(1))


class TiedEmbeddings(nn.Module):
    """The table that looks tokens up is also the kernel of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.up, self.down = nn.Embedding(TOKENS, WIDTH), nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.head(x + self.down(self.up(x).relu()))


def cases() -> list[Case]:
    """The networks of this module."""
    steps, wide = torch.randn(2, 6, 8), torch.randn(2, 6, WIDTH)
    tokens = torch.randint(0, TOKENS, (2, 6))
    return [
        Case("LSTM", "written here", lambda: (Recurrent(nn.LSTM), steps)),
        Case("LSTM, two layers", "written here", lambda: (Recurrent(nn.LSTM, num_layers=2), steps)),
        Case("GRU, two directions", "written here", lambda: (Recurrent(nn.GRU, bidirectional=True), steps)),
        Case("einsum attention", "written here", lambda: (EinsumAttention(), wide)),
        Case("fused qkv", "written here", lambda: (FusedBlock(), steps)),
        Case("grouped queries, rotary", "written here", lambda: (GroupedQueries(), tokens)),
        Case("nn.MultiheadAttention", "written here", lambda: (MultiheadAttention(), steps)),
        Case("nn.TransformerEncoder", "written here", lambda: (Encoder(), steps)),
        Case("tied embeddings", "written here", lambda: (TiedEmbeddings(), tokens)),
    ]
