"""Builders of the operations that have weights."""

from __future__ import annotations

from collections.abc import Sequence

from structure.recording import Recorder

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
BOTH = (("bias", ("gate", "out")), ("recurrent_bias", ("gate", "out")))
BIASES = {"both": BOTH, "one": BOTH[:1], "stacked": (("bias", ("kind", "gate", "out")),), "none": ()}


class WeightBuilder(Recorder):
    """Each method adds one operation and returns the number of the tensor that it makes."""

    def linear(
        self,
        x: int,
        out: int,
        axis: int = -1,
        name: str | None = None,
        bias: bool = True,
        rows: tuple[int, int] | None = None,
        axes: tuple[str, str] = ("out", "in"),
    ) -> int:
        """``rows`` of a kernel with ``out`` rows in all; the bias of such a kernel is named after it."""
        shape = list(self.shape(x))
        size = (out, shape[axis]) if axes[0] != "in" else (shape[axis], out)
        own = {"kernel": self.parameter(size, "kernel", name, axes)}
        if bias:
            own["bias"] = self.parameter((out,), "bias", None if rows is None else f"{own['kernel']} bias")
        shape[axis] = out if rows is None else rows[1] - rows[0]
        return self.add("linear", [x], shape, own, axis=axis, **({} if rows is None else {"rows": rows}))

    def convolution(
        self, x: int, out: int, size: int = 3, groups: int = 1, axis: int = 1, name: str | None = None
    ) -> int:
        shape = list(self.shape(x))
        kernel = self.parameter((out, shape[axis] // groups, *(size,) * (len(shape) - 2)), "kernel", name)
        shape[axis] = out
        own = {"kernel": kernel, "bias": self.parameter((out,), "bias")}
        return self.add("convolution", [x], shape, own, channel_axis=axis, groups=groups)

    def transposed_convolution(
        self, x: int, out: int, size: int = 3, groups: int = 1, axis: int = 1, name: str | None = None
    ) -> int:
        shape = list(self.shape(x))
        sizes = (out // groups, shape[axis] // groups, *(size,) * (len(shape) - 2))
        axes = ("out", "in", "height", "width")[: len(sizes)]
        if groups > 1:
            sizes, axes = (groups, *sizes), ("group", *axes)
        own = {"kernel": self.parameter(sizes, "kernel", name, axes), "bias": self.parameter((out,), "bias")}
        shape[axis] = out
        return self.add("convolution", [x], shape, own, channel_axis=axis, groups=groups, transposed=True)

    def bilinear(self, left: int, right: int, out: int, name: str | None = None) -> int:
        sizes = (out, self.shape(left)[-1], self.shape(right)[-1])
        own = {
            "kernel": self.parameter(sizes, "kernel", name, ("out", "in", "in2")),
            "bias": self.parameter((out,), "bias"),
        }
        return self.add("bilinear", [left, right], (*self.shape(left)[:-1], out), own)

    def embedding(self, x: int, entries: int, features: int, name: str | None = None) -> int:
        """The executor makes entries' numbers of whatever ``x`` holds, which must be an input or a constant."""
        table = self.parameter((entries, features), "embedding", name)
        return self.add("embedding", [x], (*self.shape(x), features), {"table": table})

    def tied_linear(self, x: int, table: str) -> int:
        """Reads features with an embedding's table."""
        shape = (*self.shape(x)[:-1], self.parameters[table].shape[0])
        return self.add("linear", [x], shape, {"kernel": table}, axis=-1)

    def recurrent(
        self,
        x: int,
        units: int,
        cell: str = "lstm",
        name: str | None = None,
        axis: int = -1,
        states: Sequence[int] = (),
        projection: int | None = None,
        bias: str = "both",
        reverse: bool = False,
    ) -> list[int]:
        """Of (batch, time, features), or with ``axis`` 1 of (batch, features, time): the sequence and last states."""
        gates, made, name = GATES[cell], projection or units, name or f"cell{len(self.parameters)}"
        own = {
            "kernel": self.parameter((gates, units, self.shape(x)[axis]), "recurrent", name),
            "recurrent": self.parameter((gates, units, made), "recurrent", f"{name} recurrent"),
        }
        for part, axes in BIASES[bias]:
            sizes = (2, gates, units)[-len(axes) :]
            own[part] = self.parameter(sizes, "bias", f"{name} {part}", axes)
        if projection:
            own["projection"] = self.parameter((projection, units), "kernel", f"{name} projection")
        batch, time = self.shape(x)[0], self.shape(x)[1 if axis in (-1, 2) else 2]
        shapes = [(batch, time, made), (batch, made), *([(batch, units)] if cell == "lstm" else [])]
        projected = (0, 1) if projection else ()
        return self.add_many(
            "recurrent", [x, *states], shapes, own, axis=axis, cell=cell, reverse=reverse, projected=projected
        )

    def weight(self, *shape: int, name: str | None = None, role: str = "other") -> int:
        return self.add("weight", [], shape, {"weight": self.parameter(shape, role, name)})

    def normalize(self, x: int, axis: int = 1, parts: Sequence[str] = ("scale", "shift", "mean", "variance")) -> int:
        size = self.shape(x)[axis]
        return self.add(
            "normalize", [x], self.shape(x), {role: self.parameter((size,), role) for role in parts}, axis=axis
        )

    def standardize(
        self, x: int, axes: Sequence[int], parts: Sequence[str] = ("scale", "shift"), **settings: object
    ) -> int:
        """``settings``: ``groups`` or ``rms``."""
        shape = [self.shape(x)[axis] for axis in sorted(axis % len(self.shape(x)) for axis in axes)]
        own = {role: self.parameter(shape, role) for role in parts}
        return self.add("standardize", [x], self.shape(x), own, axes=tuple(axes), **settings)

    def scale(self, x: int, shape: Sequence[int], function: str = "multiply") -> int:
        """By a learned gain, or with ``add`` a learned shift, that broadcasts."""
        own = {"gain": self.parameter(shape, "other")}
        zero = {"multiply": "any", "add": "all"}[function]
        return self.add("elementwise", [x], self.shape(x), own, function=function, zero=zero)
