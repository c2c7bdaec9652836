"""Which sizes of its inputs a model with a ``call`` of its own leaves open: lengths of sequences, heights and widths.

It is called on symbols with these sizes open. Where it then does the very same, none of them stands in its code, and
the smaller model takes any of them too; where it does not, or fails, the smaller model takes the example's alone.
"""

from __future__ import annotations

from typing import Any

import keras

from secateur_keras.calling import record
from secateur_keras.comparing import calls
from secateur_keras.functional import Symbolic, own_graph
from secateur_keras.symbols import expanded


def opened(model: keras.Model, graph: Symbolic) -> list[Any]:
    """Symbols like the graph's inputs, with None for the sizes that stay open."""
    wide = [_resized(tensor, lambda size: None) for tensor in graph.inputs]
    if own_graph(model) is not None or all(new.shape == old.shape for new, old in zip(wide, graph.inputs, strict=True)):
        return graph.inputs
    try:
        other = _called_on(model, graph, wide)
        _called_on(model, graph, [_resized(tensor, lambda size: 2 * size) for tensor in graph.inputs])
        return wide if _alike(graph, other) else graph.inputs
    except Exception:  # whatever the user's code raises that needs to know a size
        return graph.inputs


def _resized(tensor: Any, size: Any) -> Any:
    """A symbol with other sizes, those of the batch and of features aside; whole numbers have no features."""
    shape = list(tensor.shape)
    features = {1 if keras.config.image_data_format() == "channels_first" and len(shape) > 3 else len(shape) - 1}
    kept = {0, *(features if "float" in keras.backend.standardize_dtype(tensor.dtype) else ())}
    changed = [each if axis in kept or each is None else size(each) for axis, each in enumerate(shape)]
    return keras.KerasTensor(tuple(changed), dtype=tensor.dtype)


def _called_on(model: keras.Model, graph: Symbolic, inputs: list[Any]) -> Symbolic:
    structure = keras.tree.pack_sequence_as(graph.input_structure, inputs)
    return record(inputs, structure, lambda: model.call(structure))


def _alike(graph: Symbolic, other: Symbolic) -> bool:
    """Whether two graphs are of the same calls, those inside of the user's own layers included."""
    if other.baked or calls(graph) != calls(other):
        return False
    inner = [[expanded(node) for node in nodes] for nodes in (graph.nodes, other.nodes)]
    pairs = [(mine, its) for mine, its in zip(*inner, strict=True) if mine is not None]
    return all(its is not None and _alike(mine, its) for mine, its in pairs)
