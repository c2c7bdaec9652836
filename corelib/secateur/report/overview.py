"""The table that ``pruned.summary()`` returns: readable when printed, and plain records when read by a program."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.report import formats
from secateur.report.numbers import Coupled, LayerRow, Record
from secateur.report.tables import arrow
from secateur.report.words import held_back, together
from secateur.structure.cost import Cost
from secateur.structure.coupling import Frozen

WIDTH, SLICES = 120, 8
_NUMBERS = ("kept", "sparsity", "parameters", "FLOPs")


@dataclass(frozen=True)
class Overview(Record):
    """One row a prunable layer, the units that can go, and what had to stay.

    Args:
        rows: the layers, in the order of the forward pass.
        frozen: operations that hold neurons back, if neurons were pruned; and layers that never ran.
        notes: remarks.
        coupled: the units, in sets of those that are alike, if units were pruned.
        form: in words, what the smaller model is; None if none was made.
    """

    rows: tuple[LayerRow, ...]
    frozen: tuple[Frozen, ...] = ()
    notes: tuple[str, ...] = ()
    coupled: tuple[Coupled, ...] = ()
    form: str | None = None

    def __str__(self) -> str:
        """Tables of at most 120 columns: layers with shapes and costs, units and what goes with them; then remarks."""
        from rich.console import Console
        from rich.text import Text

        stream = io.StringIO()
        console = Console(file=stream, width=WIDTH, color_system=None)
        console.print(_table(("layer", "shape"), _NUMBERS, [*map(_cells, self.rows), self._total()]))
        if self.coupled:
            console.print(_table(("units", "go", "with each of them goes"), (), map(_unit_cells, self.coupled)))
        for line in self._remarks():
            console.print(Text(line))
        return stream.getvalue().rstrip()

    def _remarks(self) -> Iterator[str]:
        yield from (f"stays: {line}" for line in held_back(self.frozen, SLICES))
        if self.form is not None:
            yield f"smaller model: {self.form}"
        yield from (f"note: {note}" for note in self.notes)

    def _total(self) -> tuple[str, ...]:
        kept, total = sum(row.kept for row in self.rows), sum(row.total for row in self.rows)
        share = formats.percent(1 - kept / total if total else None)
        return ("total", "", _kept(kept, total), share, self._sum(_parameters), self._sum(_flops))

    def _sum(self, quantity: Callable[[Cost], int]) -> str:
        before = sum(quantity(row.cost_before) for row in self.rows)
        return _change(before, sum(quantity(row.cost_after) for row in self.rows))


def _table(words: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """A table for the console, with columns of words and then of numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*words)
    for heading in numbers:
        table.add_column(heading, justify="right")
    for cells in rows:
        table.add_row(*map(Text, cells))
    return table


def _unit_cells(item: Coupled) -> tuple[str, ...]:
    counts = f"{formats.count(item.removed)} of {formats.count(item.total)}"
    return (f"{item.what} of {item.layer}", counts, together(item.slices, SLICES))


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
