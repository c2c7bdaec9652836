"""What all blocks of random models draw: axes, widths, parts of sizes, kernels to share."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import strategies as st

from structure.building import GraphBuilder

Block = Callable[[st.DrawFn, GraphBuilder, int], int | None]

BATCH = 2
LARGEST = 600
LONGEST = 8
WIDTHS = st.sampled_from([4, 6, 2, 8, 3, 5, 1])


def any_axis(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Mostly the first after the batch, so that units survive a few blocks."""
    return draw(st.one_of(st.just(1), st.integers(1, len(builder.shape(x)) - 1)))


def divisors(size: int) -> list[int]:
    return [part for part in range(1, size + 1) if size % part == 0]


def in_use(builder: GraphBuilder, shape: tuple[int | None, ...]) -> list[str | None]:
    """Kernels of this shape (None: any size) that are used already, so that parameters get shared; or none."""
    fits = [
        name
        for name, own in builder.parameters.items()
        if own.role == "kernel"
        and own.axes[:2] == ("out", "in")
        and len(own.shape) == len(shape)
        and all(wanted in (None, size) for wanted, size in zip(shape, own.shape, strict=True))
    ]
    return [None, *fits]


def broadcasts(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether the second is repeated to the shape of the first."""
    pairs = zip(first[::-1], second[::-1], strict=False)
    return len(first) >= len(second) and all(b in (1, a) for a, b in pairs)


def sequence(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """(batch, time, features) made of anything: axes are split, moved and merged as needed; None if it is too long."""
    shape = builder.shape(x)
    if len(shape) == 2:
        features = draw(st.sampled_from(divisors(shape[1])))
        x = builder.reshape(x, shape[0], shape[1] // features, features)
    elif draw(st.booleans()):
        last = any_axis(draw, builder, x)
        x = builder.permute(x, 0, *(axis for axis in range(1, len(shape)) if axis != last), last)
    shape = builder.shape(x)
    if len(shape) > 3:
        x = builder.reshape(x, shape[0], math.prod(shape[1:-1]), shape[-1])
    return x if builder.shape(x)[1] <= LONGEST else None
