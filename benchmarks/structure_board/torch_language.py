"""Small configurations of Hugging Face's models, with random weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.structure_board.cases import Case

TOKENS = 96
SMALL = {
    "vocab_size": TOKENS,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "DistilBert": {"vocab_size": TOKENS, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    "GPT2": {"vocab_size": TOKENS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32},
    "OPT": {
        "vocab_size": TOKENS,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 128,
        "word_embed_proj_dim": 64,
        "max_position_embeddings": 32,
    },
    "T5": {"vocab_size": TOKENS, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
}
FEW_KEYS = {"num_key_value_heads": 2}


class Logits(nn.Module):
    """Of a model's answer the first tensor alone."""

    def __init__(self, model: nn.Module, **options: Any) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x, **self.options)[0]


class Translation(nn.Module):
    """An encoder and a decoder on the same tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens, decoder_input_ids=tokens, use_cache=False)[0]


def cases() -> list[Case]:
    """All of them, if transformers is installed."""
    if importlib.util.find_spec("transformers") is None:
        return []
    classifiers = {
        "BERT": partial(_text, "Bert", "SequenceClassification"),
        "DistilBERT": partial(_text, "DistilBert", "SequenceClassification"),
        "RoBERTa": partial(_text, "Roberta", "SequenceClassification"),
        "ELECTRA": partial(_text, "Electra", "SequenceClassification", embedding_size=64),
        "ALBERT": partial(_text, "Albert", "SequenceClassification", embedding_size=32),
    }
    causal = partial(_text, task="CausalLM", use_cache=False)
    decoders = {
        "GPT-2": partial(_text, "GPT2", "LMHeadModel", use_cache=False),
        "GPT-NeoX": partial(causal, "GPTNeoX"),
        "OPT": partial(causal, "OPT"),
        "LLaMA, grouped queries": partial(causal, "Llama", **FEW_KEYS),
        "Mistral": partial(causal, "Mistral", **FEW_KEYS),
        "Qwen2": partial(causal, "Qwen2", **FEW_KEYS),
        "Gemma": partial(causal, "Gemma", head_dim=16, **FEW_KEYS),
        "Phi": partial(causal, "Phi"),
        "T5": _t5,
    }
    images = {
        "ViT (transformers)": partial(_image, "ViT", patch_size=8, image_size=32),
        "DeiT (transformers)": partial(_image, "DeiT", patch_size=8, image_size=32),
        "SegFormer": _segformer,
    }
    return [Case(name, "transformers", build) for name, build in {**classifiers, **decoders, **images}.items()]


def _text(family: str, task: str, use_cache: bool | None = None, **more: Any) -> tuple[nn.Module, Tensor]:
    options = {} if use_cache is None else {"use_cache": use_cache}
    model = _made(family, task, {**OTHERS.get(family, SMALL), **more})
    return Logits(model, **options), torch.randint(3, TOKENS, (2, 8))


def _image(family: str, **more: Any) -> tuple[nn.Module, Tensor]:
    sizes = {name: size for name, size in SMALL.items() if name != "vocab_size"}
    return Logits(_made(family, "ImageClassification", {**sizes, **more})), torch.randn(2, 3, 32, 32)


def _segformer() -> tuple[nn.Module, Tensor]:
    sizes = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32}
    model = _made("Segformer", "SemanticSegmentation", {**sizes, "num_attention_heads": [1, 2, 3, 4]})
    return Logits(model), torch.randn(2, 3, 64, 64)


def _t5() -> tuple[nn.Module, Tensor]:
    model = _made("T5", "ConditionalGeneration", OTHERS["T5"])
    return Translation(model), torch.randint(3, TOKENS, (2, 8))


def _made(family: str, task: str, sizes: Mapping[str, Any]) -> nn.Module:
    import transformers

    kind: Callable[..., nn.Module] = getattr(transformers, f"{family}{'' if task.startswith('LM') else 'For'}{task}")
    return kind(getattr(transformers, f"{family}Config")(**sizes))
