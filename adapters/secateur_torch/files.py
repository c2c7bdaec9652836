"""Saved PyTorch models: weights as safetensors, and the architecture where plain data can describe it. Never pickle.

A model of ``torch.nn`` layers in ``Sequential`` containers is rebuilt from the folder alone: from an allow-list of
classes and the arguments of their constructors. Any other needs an instance of the user's own class to receive the
weights.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from secateur.errors import FileFormatError

WEIGHTS, ARCHITECTURE = "model.safetensors", "architecture.json"

LAYERS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        *(nn.Embedding, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.Flatten, nn.Unflatten, nn.Identity),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
        *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Upsample, nn.PixelShuffle),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
        *(nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Softsign, nn.LogSigmoid),
        *(nn.Softmax, nn.LogSoftmax, nn.ChannelShuffle),
    )
}


def write_model(model: nn.Module, folder: Path) -> None:
    """Write ``model.safetensors``, under the names of the state dict, and ``architecture.json``."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _state(model).items()}
    save_file(state, folder / WEIGHTS)
    frozen = [name for name, tensor in model.named_parameters() if not tensor.requires_grad]
    document = {"class": type(model).__name__, "architecture": _architecture(model), "frozen": frozen}
    (folder / ARCHITECTURE).write_text(json.dumps(document, indent=1), "utf-8")


def read_model(folder: Path, model: nn.Module | None) -> nn.Module:
    """The model that was written.

    Args:
        folder: where it was written.
        model: an instance of the original architecture, which receives the weights; None to build it from the folder.

    Raises:
        FileFormatError: a file is missing, damaged or foreign, the folder does not describe the architecture, or names
            or shapes differ from ``model``'s. Nothing was changed.
    """
    state = _load(folder / WEIGHTS)
    built = _rebuild(folder / ARCHITECTURE) if model is None else model
    _check(folder, _state(built), state)
    built.load_state_dict(state, strict=False, assign=model is None)
    return built


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of the state dict; a module's extra state of another kind is its own affair."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error


def _check(folder: Path, expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    problems = [f"the model has no {name}" for name in found if name not in expected]
    problems += [f"the folder has no {name}" for name in expected if name not in found]
    problems += [
        f"{name} is {tuple(found[name].shape)} in the folder and {tuple(tensor.shape)} in the model"
        for name, tensor in expected.items()
        if name in found and tensor.shape != found[name].shape
    ]
    problems += [
        f"{name} is of {found[name].dtype} in the folder and of {tensor.dtype} in the model"
        for name, tensor in expected.items()
        if name in found and tensor.is_floating_point() != found[name].is_floating_point()
    ]
    if problems:
        raise FileFormatError(f"{folder} was saved from another model: {'; '.join(problems)}")


def _architecture(model: nn.Module) -> Any:
    """The architecture as plain data; None if it cannot be told so, as with shared weights or hooks on the forward."""
    parameters = [id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False)]
    return _describe(model) if len(parameters) == len(set(parameters)) else None


def _describe(module: nn.Module) -> Any:
    name = type(module).__name__
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    if type(module) is nn.Sequential:
        children = {key: _describe(child) for key, child in module._modules.items() if child is not None}
        known = None not in children.values()
        return {"layer": name, "children": children, "training": module.training} if known else None
    if LAYERS.get(name) is not type(module):
        return None
    options = {key: _plain(getattr(module, key)) for key in _options(type(module)) if hasattr(module, key)}
    if "bias" in options:
        options["bias"] = getattr(module, "bias", None) is not None
    return {"layer": name, "options": options, "training": module.training}


def _options(kind: type[nn.Module]) -> list[str]:
    """Constructor arguments that the layer keeps as attributes of the same name."""
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    return [name for name in names if name not in ("device", "dtype", "_weight", "_freeze")]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _rebuild(path: Path) -> nn.Module:
    try:
        document = json.loads(path.read_text("utf-8"))
        description, frozen = document["architecture"], set(document.get("frozen", ()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error
    if description is None:
        raise FileFormatError(
            f"{path.parent} holds the weights of a {document.get('class')}, whose code it does not know: pass model=, "
            "an instance of the original architecture"
        )
    model = _build(description, path)
    for name, tensor in model.named_parameters():
        tensor.requires_grad_(name not in frozen)
    return model


def _build(description: Any, path: Path) -> nn.Module:
    """The module without numbers, which are to be assigned; the random state is not touched."""
    try:
        if description["layer"] == "Sequential":
            model = nn.Sequential()
            for name, child in description["children"].items():
                model.add_module(name, _build(child, path))
            model.training = bool(description["training"])
            return model
        kind = LAYERS[description["layer"]]
        known = set(_options(kind))
        options = {key: _hashable(value) for key, value in description["options"].items() if key in known}
        with torch.device("meta"):
            return kind(**options).train(bool(description["training"]))
    except FileFormatError:
        raise  # of a layer within
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:  # RecursionError among them
        raise FileFormatError(f"{path} does not describe an architecture: {type(error).__name__}: {error}") from error


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
