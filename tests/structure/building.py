"""Builds a :class:`Graph` step by step, as a tracer would: shapes are worked out, parameters get names."""

from __future__ import annotations

from structure.tensor_building import TensorBuilder
from structure.weight_building import WeightBuilder


class GraphBuilder(WeightBuilder, TensorBuilder):
    """Each method returns the number of the tensor that it makes; those below write out what is often written out."""

    def shuffle(self, x: int, groups: int, axis: int = 1) -> int:
        shape = self.shape(x)
        parted = self.reshape(x, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
        order = [*range(axis), axis + 1, axis, *range(axis + 2, len(shape) + 1)]
        return self.reshape(self.permute(parted, *order), *shape)

    def squeeze_and_excite(self, x: int, squeezed: int) -> int:
        mean = self.reduce(x, range(2, len(self.shape(x))), keepdims=True)
        small = self.activation(self.convolution(mean, squeezed, 1))
        gate = self.activation(self.convolution(small, self.shape(x)[1], 1), "sigmoid")
        return self.combine(x, gate, function="multiply")

    def heads(self, x: int, count: int) -> int:
        """(batch, time, count * features) -> (batch, count, time, features)."""
        batch, time, width = self.shape(x)
        return self.permute(self.reshape(x, batch, time, count, width // count), 0, 2, 1, 3)

    def joined(self, x: int) -> int:
        """The inverse of :meth:`heads`."""
        batch, count, time, features = self.shape(x)
        return self.reshape(self.permute(x, 0, 2, 1, 3), batch, time, count * features)

    def written_attention(self, queries: int, keys: int, values: int) -> int:
        """Softmax of products, as sums of products of (batch, heads, time, features)."""
        scores = self.softmax(self.contract(["bhtd", "bhsd"], "bhts", queries, keys))
        return self.contract(["bhts", "bhsd"], "bhtd", scores, values)
