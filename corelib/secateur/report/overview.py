"""The table that ``pruned.summary()`` returns: readable when printed, and plain records when read by a program."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from secateur.report import formats
from secateur.report.numbers import LayerRow, Record
from secateur.report.tables import arrow
from secateur.structure.cost import Cost
from secateur.structure.coupling import Frozen

WIDTH = 120
_NUMBERS = ("kept", "sparsity", "parameters", "FLOPs")


@dataclass(frozen=True)
class Overview(Record):
    """One row a prunable layer, and what had to stay.

    Args:
        rows: the layers, in the order of the forward pass.
        frozen: operations that hold neurons back, if neurons were pruned; and layers that never ran.
        notes: remarks.
    """

    rows: tuple[LayerRow, ...]
    frozen: tuple[Frozen, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A table of at most 120 columns: layer, shape, kept, sparsity, parameters, FLOPs; what stays; notes."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("layer", "shape")
        for heading in _NUMBERS:
            table.add_column(heading, justify="right")
        for cells in [*map(_cells, self.rows), self._total()]:
            table.add_row(*map(Text, cells))
        stream = io.StringIO()
        console = Console(file=stream, width=WIDTH, color_system=None)
        console.print(table)
        for item in self.frozen:
            console.print(Text(f"stays: {', '.join(item.parameters)}: {item.where}: {item.reason}"))
        for note in self.notes:
            console.print(Text(f"note: {note}"))
        return stream.getvalue().rstrip()

    def _total(self) -> tuple[str, ...]:
        kept, total = sum(row.kept for row in self.rows), sum(row.total for row in self.rows)
        share = formats.percent(1 - kept / total if total else None)
        return ("total", "", _kept(kept, total), share, self._sum(_parameters), self._sum(_flops))

    def _sum(self, quantity: Callable[[Cost], int]) -> str:
        before = sum(quantity(row.cost_before) for row in self.rows)
        return _change(before, sum(quantity(row.cost_after) for row in self.rows))


def _cells(row: LayerRow) -> tuple[str, ...]:
    shape = arrow(formats.shape(row.shape_before), formats.shape_left(row.shape_after))
    costs = (_change(*map(quantity, _costs(row))) for quantity in (_parameters, _flops))
    return (row.layer, shape, _kept(row.kept, row.total), formats.percent(row.sparsity), *costs)


def _costs(row: LayerRow) -> tuple[Cost, Cost]:
    return row.cost_before, row.cost_after


def _parameters(cost: Cost) -> int:
    return cost.parameters


def _flops(cost: Cost) -> int:
    return cost.flops


def _kept(kept: int, total: int) -> str:
    return f"{formats.count(kept)} of {formats.count(total)}"


def _change(before: int, after: int) -> str:
    """Zero before means not known: FLOPs of a model whose structure was not traced."""
    return arrow(formats.count(before or None), formats.count(after if before else None))
