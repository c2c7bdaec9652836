"""Blocks of random models for sequences: attention in all its spellings, recurrence, embeddings, sums of products."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from structure.building import GraphBuilder
from structure.drawing import BATCH, LARGEST, WIDTHS, Block, any_axis, sequence


def _written_attention(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Softmax of products, with heads made by reshaping, from one layer, from three, or from rows of one kernel."""
    x = sequence(draw, builder, x)
    if x is None:
        return None
    count, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    make = draw(st.sampled_from([_separate, _chunked, _stacked, _interleaved, _from_rows]))
    queries, keys, values = make(builder, x, count, width)
    y = builder.joined(builder.written_attention(queries, keys, values))
    return _back(draw, builder, x, y)


def _separate(builder: GraphBuilder, x: int, count: int, width: int) -> list[int]:
    return [builder.heads(builder.linear(x, count * width, bias=part != 1), count) for part in range(3)]


def _chunked(builder: GraphBuilder, x: int, count: int, width: int) -> list[int]:
    return [builder.heads(part, count) for part in builder.chunk(builder.linear(x, 3 * count * width), 3)]


def _from_rows(builder: GraphBuilder, x: int, count: int, width: int) -> list[int]:
    size, name = count * width, f"packed{len(builder.parameters)}"
    rows = [(part * size, (part + 1) * size) for part in range(3)]
    return [builder.heads(builder.linear(x, 3 * size, name=name, rows=part), count) for part in rows]


def _stacked(builder: GraphBuilder, x: int, count: int, width: int) -> list[int]:
    """(batch, time, 3, heads, features), as in vision Transformers."""
    batch, time, _ = builder.shape(x)
    packed = builder.reshape(builder.linear(x, 3 * count * width), batch, time, 3, count, width)
    packed = builder.permute(packed, 2, 0, 3, 1, 4)
    parts = [builder.slice(packed, part, part + 1, axis=0) for part in range(3)]
    return [builder.reshape(part, batch, count, time, width) for part in parts]


def _interleaved(builder: GraphBuilder, x: int, count: int, width: int) -> list[int]:
    """(batch, time, heads, 3 * features): each head's own queries, keys and values lie together."""
    batch, time, _ = builder.shape(x)
    packed = builder.reshape(builder.linear(x, 3 * count * width), batch, time, count, 3 * width)
    return builder.split(builder.permute(packed, 0, 2, 1, 3), width, width, width)


def _attention(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """As one operation: grouped queries, rotated or not, with masks that have heads or not."""
    x = sequence(draw, builder, x)
    if x is None:
        return None
    time, count, sharing = builder.shape(x)[1], draw(st.integers(1, 3)), draw(st.integers(1, 2))
    width, made = 2 * draw(st.integers(1, 2)), draw(st.integers(1, 3))
    queries = builder.heads(builder.linear(x, count * sharing * width), count * sharing)
    keys, values = (builder.heads(builder.linear(x, count * size), count) for size in (width, made))
    if draw(st.booleans()):
        rotate = draw(st.sampled_from([_rotated, _rotated_in_pairs]))
        queries, keys = rotate(builder, queries), rotate(builder, keys)
    masks = {
        "none": list,
        "constant": lambda: [builder.constant(time, time)],
        "slopes": lambda: [builder.constant(count * sharing, 1, time)],
        "learned": lambda: [builder.weight(count * sharing, time, time)],
    }
    mask = masks[draw(st.sampled_from(list(masks)))]()
    if draw(st.booleans()):
        keys, values = (_repeated(builder, part, sharing) for part in (keys, values))
    y = builder.attention(queries, keys, values, *mask, scaled=draw(st.booleans()))
    return _back(draw, builder, x, builder.joined(y))


def _rotated(builder: GraphBuilder, x: int) -> int:
    """Feature d turns with feature d + D/2."""
    time, width = builder.shape(x)[2:]
    left, right = (builder.slice(x, start, start + width // 2) for start in (0, width // 2))
    turned = builder.concat(builder.activation(right, "negative"), left, axis=-1)
    parts = [builder.combine(y, builder.constant(time, width), function="multiply") for y in (x, turned)]
    return builder.combine(*parts)


def _rotated_in_pairs(builder: GraphBuilder, x: int) -> int:
    """Feature 2d turns with feature 2d + 1."""
    shape = builder.shape(x)
    even, odd = (builder.slice(x, start, shape[-1], 2) for start in (0, 1))
    thin = (*builder.shape(even), 1)
    stacked = builder.concat(
        builder.reshape(builder.activation(odd, "negative"), *thin), builder.reshape(even, *thin), axis=-1
    )
    turned = builder.reshape(stacked, *shape)
    parts = [builder.combine(y, builder.constant(*shape[-2:]), function="multiply") for y in (x, turned)]
    return builder.combine(*parts)


def _repeated(builder: GraphBuilder, x: int, copies: int) -> int:
    """Each head several times, written out."""
    batch, count, time, width = builder.shape(x)
    thin = builder.reshape(x, batch, count, 1, time, width)
    return builder.reshape(builder.expand(thin, batch, count, copies, time, width), batch, count * copies, time, width)


def _back(draw: st.DrawFn, builder: GraphBuilder, x: int, y: int) -> int:
    """As it is, through a layer, or through a layer and added to where it came from."""
    kind = draw(st.sampled_from(["plain", "layer", "residual", "residual"]))
    if kind == "plain":
        return y
    made = builder.linear(y, builder.shape(x)[-1] if kind == "residual" else draw(WIDTHS))
    return builder.combine(x, made) if kind == "residual" else made


def _recurrent(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """One or two layers in one or both directions, with any starting states; the sequence or the last states."""
    x = sequence(draw, builder, x)
    if x is None:
        return None
    cell, both, units = draw(st.sampled_from(["lstm", "gru", "rnn"])), draw(st.booleans()), draw(st.integers(2, 4))
    for _ in range(draw(st.integers(1, 2))):
        kind = (cell, draw(st.integers(2, 3)) if cell == "lstm" and draw(st.booleans()) else None)
        results = [_layer(draw, builder, x, units, kind, reverse) for reverse in (False, True)[: 1 + both]]
        x = builder.concat(*(result[0] for result in results), axis=-1) if both else results[0][0]
    last = builder.concat(*(result[-1] for result in results)) if both else results[0][-1]
    return draw(st.sampled_from([x, x, last]))


def _layer(
    draw: st.DrawFn, builder: GraphBuilder, x: int, units: int, kind: tuple[str, int | None], reverse: bool
) -> list[int]:
    cell, projection = kind
    bias = draw(st.sampled_from(["both", "one", "none", "stacked"] if cell == "gru" else ["both", "one", "none"]))
    sizes = [projection or units, *([units] if cell == "lstm" else [])]
    starts = {
        "none": list,
        "zeros": lambda: [builder.fill(BATCH, size) for size in sizes],
        "ones": lambda: [builder.fill(BATCH, size, value=1.0) for size in sizes],
        "made": lambda: [builder.linear(builder.reduce(x, [1]), size) for size in sizes],
    }
    states = starts[draw(st.sampled_from(list(starts)))]()
    turned = draw(st.booleans())
    given = builder.permute(x, 0, 2, 1) if turned else x
    settings = {"axis": 1 if turned else -1, "bias": bias, "reverse": reverse, "projection": projection}
    return builder.recurrent(given, units, cell, states=states, **settings)


def _embedding(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Of tokens or of positions, added to what has these features."""
    x = sequence(draw, builder, x)
    if x is None:
        return None
    _, time, features = builder.shape(x)
    index = builder.input(BATCH, time) if draw(st.booleans()) else builder.constant(time)
    return builder.combine(x, builder.embedding(index, draw(st.integers(2, 5)), features))


def _tied(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Reads features with a table that made such ones."""
    fits = [
        name
        for name, own in builder.parameters.items()
        if own.role == "embedding" and own.shape[1] == builder.shape(x)[-1]
    ]
    return builder.tied_linear(x, draw(st.sampled_from(fits))) if fits else None


def _contract(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """With any other tensor, or one made by a layer: axes of one size (or of size 1) may share a label."""
    shape = builder.shape(x)
    made = builder.linear(x, draw(st.sampled_from([*shape[1:], 3])), any_axis(draw, builder, x))
    other = draw(st.sampled_from([made, made, *range(len(builder.tensors))]))
    labels = "abcdefg"[: len(shape)]
    second = _labels(draw, shape, builder.shape(other), labels)
    every = sorted(set(labels) | set(second))
    sizes = {
        letter: size
        for pair in ((second, builder.shape(other)), (labels, shape))
        for letter, size in zip(*pair, strict=True)
    }
    kept = [letter for letter in every[1:] if draw(st.booleans())] or every[1:2]
    if math.prod(sizes[letter] for letter in every) > 4 * LARGEST:
        return None
    return builder.contract([labels, second], "a" + "".join(draw(st.permutations(kept))), x, other)


def _labels(draw: st.DrawFn, shape: tuple[int, ...], other: tuple[int, ...], labels: str) -> str:
    """For each axis of the other tensor a label of an axis that fits, or a new one; the batch keeps its own."""
    new, chosen = iter("hijklmn"), ""
    for size in other:
        fits = [
            letter
            for letter, own in zip(labels, shape, strict=True)
            if size in (1, own) and letter not in chosen and (letter != "a" or not chosen)
        ]
        chosen += draw(st.sampled_from([*fits, next(new)]))
    return chosen


def _weights_as_tensors(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Heads made by a contraction with a weight of three axes, permuted or not, and joined by one of another."""
    x = sequence(draw, builder, x)
    if x is None:
        return None
    features, count, width = builder.shape(x)[2], draw(st.integers(1, 3)), draw(st.integers(1, 3))
    role = draw(st.sampled_from(["kernel", "other"]))
    if draw(st.booleans()):
        wide = builder.weight(features, count, width, role="other")
    else:
        wide = builder.permute(builder.weight(count, features, width, role=role), 1, 0, 2)
    y = builder.contract(["btf", "fhd"], "bhtd", x, wide)
    y = builder.activation(y, draw(st.sampled_from(["tanh", "sigmoid"])))
    if draw(st.booleans()):
        y = builder.written_attention(y, y, builder.contract(["btf", "fhd"], "bhtd", x, wide))
    made = builder.weight(draw(st.integers(1, 4)), count, width, role=role)
    return builder.contract(["bhtd", "ohd"], "bto", y, made)


SEQUENCE_BLOCKS: dict[str, Block] = {
    "written attention": _written_attention,
    "attention": _attention,
    "recurrent": _recurrent,
    "embedding": _embedding,
    "tied": _tied,
    "contract": _contract,
    "weights as tensors": _weights_as_tensors,
}
