"""A model in a folder: ``model.safetensors`` under the parameter names, ``architecture.json`` in Keras's own form.

Nothing is pickled, and Keras reads the architecture in its safe mode: layers of your own must be registered with
``keras.saving.register_keras_serializable``, or a model be given.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import numpy.typing as npt

from secateur.errors import FileFormatError
from secateur_keras import backends
from secateur_keras.naming import owned, renamed, require_model, unlike, weights
from secateur_keras.randomness import untouched_randomness
from secateur_keras.rebuilding import settle

Array = npt.NDArray[Any]

WEIGHTS, ARCHITECTURE = "model.safetensors", "architecture.json"
ORDER = "order"
"""Where the weights' file tells them in order of definition, each with its layer and that layer's class."""
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
}


def write_model(model: keras.Model, folder: Path) -> None:
    """Write weights and architecture, each file whole or not at all.

    Args:
        model: a built model. If Keras cannot serialize it, the architecture says so, and reading needs a model.
        folder: an existing folder.
    """
    from safetensors.numpy import save

    backends.synchronise(model)
    arrays = {weight.name: np.array(backends.array(weight.variable), order="C") for weight in weights(model)}
    order = json.dumps(owned(model))
    try:
        architecture = keras.saving.serialize_keras_object(model)
        text = json.dumps(architecture)
    except (NotImplementedError, TypeError, ValueError) as error:
        text = json.dumps({"unavailable": str(error)})
    _write(folder / WEIGHTS, save(arrays, metadata={ORDER: order}))
    _write(folder / ARCHITECTURE, text.encode())


@untouched_randomness()
def read_model(folder: Path, model: keras.Model | None = None) -> keras.Model:
    """The model that was written; no random state changes.

    Args:
        folder: what :func:`write_model` wrote to.
        model: a model of the same architecture, which receives the weights; None to rebuild it.

    Raises:
        FileFormatError: a file is missing, damaged, or of another model. A given model was not changed.
    """
    arrays = _arrays(folder / WEIGHTS)
    model = _rebuilt(folder / ARCHITECTURE) if model is None else model
    names = counterparts(folder, model)
    arrays = {names.get(name, name): array for name, array in arrays.items()}
    backends.synchronise(model)
    own = {weight.name: weight.variable for weight in weights(model)}
    _require_same(folder, arrays, own)
    for name, variable in own.items():
        variable.assign(arrays[name])
    settle(model)
    return model


def counterparts(folder: Path, model: keras.Model) -> dict[str, str]:
    """Saved name -> the model's name of each weight and layer, where Keras numbered its layers otherwise.

    Keras counts layers without a name as the session goes: ``dense_4`` here may be ``dense`` there. The weights of both
    then follow each other in the same order, with the same names but for numbers, in layers of the same classes.

    Args:
        folder: what :func:`write_model` wrote to.
        model: a built model.

    Returns:
        Nothing, if the names are the same.

    Raises:
        FileFormatError: a file is missing or damaged, or the model is another.
    """
    require_model(model)
    own, saved = owned(model), _order(folder / WEIGHTS)
    if saved is None:
        return {}
    if apart := unlike(saved, own):
        raise FileFormatError(
            f"{folder} and the model have different weights, and names that differ: first {apart[0]} in the folder, "
            f"{apart[1]} in the model; build the same architecture, with the same names where you give any"
        )
    return renamed(saved, own)


def _order(path: Path) -> list[list[str]] | None:
    """What ``owned`` told of the model that was written; None where the file comes from before it did."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            told = (file.metadata() or {}).get(ORDER)
        return None if told is None else [[str(part) for part in owned] for owned in json.loads(told)]
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error


def _rebuilt(path: Path) -> keras.Model:
    advice = "pass model=, or register its classes with keras.saving.register_keras_serializable and load again"
    try:
        architecture = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error
    if not isinstance(architecture, dict) or "class_name" not in architecture:
        reason = architecture.get("unavailable") if isinstance(architecture, dict) else "it is no architecture"
        raise FileFormatError(f"{path} holds no architecture ({reason}): {advice}")
    try:
        model = _deserialized(architecture)
    except Exception as error:
        raise FileFormatError(f"{path} cannot be rebuilt: {error}; {advice}") from error
    if not isinstance(model, keras.Model) or not model.built:
        raise FileFormatError(f"{path} describes a model that has no weights before it is called: {advice}")
    return model


def _deserialized(architecture: dict[str, Any]) -> Any:
    """Compiled as it was, if its loss and metrics are known here; else not compiled."""
    try:
        return keras.saving.deserialize_keras_object(architecture)
    except Exception:
        if not architecture.pop("compile_config", None):
            raise
        return keras.saving.deserialize_keras_object(architecture)


def _arrays(path: Path) -> dict[str, Array]:
    """Name -> array; read here because safetensors' own NumPy reader has no bfloat16."""
    from safetensors import SafetensorError, deserialize

    try:
        return {name: _array(entry) for name, entry in deserialize(path.read_bytes())}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error


def _array(entry: dict[str, Any]) -> Array:
    name = DTYPES[entry["dtype"]]
    return np.frombuffer(entry["data"], np.dtype(getattr(ml_dtypes, name, name))).reshape(entry["shape"])


def _require_same(folder: Path, arrays: dict[str, Array], own: dict[str, keras.Variable]) -> None:
    different = sorted(arrays.keys() ^ own.keys())
    if different:
        raise FileFormatError(
            f"{folder} and the model have different weights: {', '.join(different)}; build the same architecture, and "
            "give its layers names (Keras numbers those without one as the session goes)"
        )
    for name, variable in own.items():
        saved, wanted = arrays[name], backends.dtype(variable)
        if saved.shape != tuple(variable.shape) or saved.dtype != wanted:
            raise FileFormatError(
                f"{folder} holds {name} as {saved.dtype} of shape {saved.shape}, but the model has {wanted} of "
                f"shape {tuple(variable.shape)}"
            )


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
