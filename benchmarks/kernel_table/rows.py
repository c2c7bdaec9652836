"""The rows of the table: what is measured, in which unit, against which target and which peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.kernel_table import operations, peers
from benchmarks.kernel_table.operations import Prepare
from benchmarks.kernel_table.peers import Peer

LARGE = 100_000_000
"""From so many elements on, the cost of a sample is small against a reading of all."""

SMALL = 5_000_000
"""Bytes that a threshold may take beside its input."""
THRESHOLD = "exact threshold of magnitudes"
SUMMARY = "summary: count, zeros, mean, σ, |w|, extremes, histogram"


@dataclass(frozen=True)
class Row:
    """One kernel on one kind of data.

    Args:
        name: what is done.
        data: on what.
        unit: "R", readings of the same data, or "S", changes of the same data in place.
        target: at most so many units, for a number of elements; None is no target.
        ours: Secateur's operation.
        peers: others that do the same.
        memory: the target for the peak of memory beside the input, in bytes.
        short: the name in charts, of the rows that these show.
        grows: whether the row is measured for many sizes.
    """

    name: str
    data: str
    unit: Literal["R", "S"]
    target: Callable[[int], float] | None
    ours: Prepare
    peers: tuple[Peer, ...] = ()
    memory: int | None = None
    short: str = ""
    grows: bool = False

    @property
    def key(self) -> str:
        """What tells the row from others."""
        return f"{self.name} · {self.data}"


def at_most(limit: float) -> Callable[[int], float]:
    """A target that does not depend on size."""
    return lambda size: limit


def threshold_target(size: int) -> float:
    """2.0 readings of many numbers, 2.6 of fewer."""
    return 2.0 if size >= 0.99 * LARGE else 2.6


def threshold_rows() -> list[Row]:
    sort = Peer("tf.sort", "tensorflow", peers.tensorflow_sort)
    by_share = {
        50: (peers.partition(0.5), peers.quantile(0.5), peers.kthvalue(0.5), sort),
        90: (peers.partition(0.9), peers.quantile(0.9), peers.topk(0.9), peers.tensorflow_top_k(0.9)),
    }
    rows = [
        Row(
            f"{THRESHOLD}, {q} %",
            "normal",
            "R",
            threshold_target,
            operations.percentile(q),
            others,
            memory=SMALL,
            short="Exact threshold over 50 arrays" if q == 90 else "",
            grows=q == 90,
        )
        for q, others in by_share.items()
    ]
    return rows + [
        Row(f"{THRESHOLD}, {q} %", case, "R", at_most(3.0), operations.percentile(q, case), memory=SMALL)
        for case in ("80 % zeros", "constant", "sorted", "few values")
        for q in (50, 90)
    ]


def pruning_rows() -> list[Row]:
    others = (peers.partition_and_zero(0.9), peers.global_unstructured(0.9))
    return [
        Row("exactly half kept, in place", "normal", "S", at_most(1.6), operations.zero_smallest(0.5)),
        Row(
            "exactly a tenth kept, in place",
            "normal",
            "S",
            at_most(1.6),
            operations.zero_smallest(0.9),
            others,
            short="Exactly a tenth kept, in place",
            grows=True,
        ),
        Row(
            "zero below a threshold",
            "normal",
            "S",
            at_most(1.25),
            operations.zero_below,
            (
                Peer("np, line[...] = 0", "numpy", peers.numpy_zero_below),
                Peer("np.where", "numpy", peers.numpy_where),
                Peer("torch.masked_fill_", "torch", peers.torch_zero_below),
            ),
            short="Zero below a threshold",
            grows=True,
        ),
        Row(
            "2:4 in place",
            "normal",
            "S",
            at_most(1.4),
            operations.two_of_four,
            (Peer("torch topk and scatter_", "torch", peers.torch_two_of_four),),
            short="2:4, in place",
        ),
        Row(
            "half of each row by |w|·‖x‖ (Wanda), in place",
            "normal",
            "S",
            at_most(6.0),
            operations.wanda,
            (peers.torch_wanda(by_sorting=False), peers.torch_wanda(by_sorting=True)),
            short="Half of each row (Wanda), in place",
        ),
    ]


def mask_rows() -> list[Row]:
    return [
        Row(
            "apply a mask of bool",
            "normal",
            "S",
            at_most(1.25),
            operations.apply_bool,
            (
                Peer("np.multiply", "numpy", peers.numpy_multiply),
                Peer("np, line[~mask] = 0", "numpy", peers.numpy_index),
                peers.torch_multiply(as_float=True),
                peers.torch_multiply(as_float=False),
                Peer("torch.masked_fill_", "torch", peers.torch_masked_fill),
            ),
            short="Apply a mask",
        ),
        Row("make a mask of bool", "normal", "R", None, operations.keep_above(packed=False)),
        Row(
            "make a packed mask",
            "normal",
            "R",
            at_most(1.6),
            operations.keep_above(packed=True),
            (Peer("np.packbits", "numpy", peers.numpy_packbits),),
            short="Make a packed mask",
        ),
        Row(
            "apply a packed mask",
            "normal",
            "S",
            at_most(1.4),
            operations.apply_packed,
            (Peer("np.unpackbits, multiply", "numpy", peers.numpy_unpackbits),),
            short="Apply a packed mask",
        ),
    ]


def sum_rows() -> list[Row]:
    rows = [
        Row(
            SUMMARY,
            "normal",
            "R",
            at_most(2.5),
            operations.summary,
            (
                Peer("np mean, std, abs, min, max", "numpy", peers.numpy_moments),
                Peer("torch.std_mean", "torch", peers.torch_moments),
            ),
            short="Summary, exact in any order",
            grows=True,
        )
    ]
    for axis in (0, 1):
        for transposed in (False, True):
            rows.append(
                Row(
                    f"exact neuron sums, axis {axis}",
                    "columns together" if transposed else "rows together",
                    "R",
                    at_most(2.0),
                    operations.neuron_sums(axis, transposed),
                    (peers.numpy_sums(axis, transposed), peers.torch_sums(axis, transposed)),
                    short="" if transposed or axis else "Neuron sums, exact in any order",
                    grows=not (transposed or axis),
                )
            )
    accumulated = Row(
        "accumulate |gradient|",
        "normal",
        "S",
        at_most(1.85),
        operations.accumulate,
        (Peer("np.add", "numpy", peers.numpy_accumulate), Peer("torch.add_", "torch", peers.torch_accumulate)),
        short="Accumulate |gradient|",
    )
    return [*rows, accumulated]


def rows() -> list[Row]:
    """All rows, for float32."""
    return [*threshold_rows(), *pruning_rows(), *mask_rows(), *sum_rows()]


def narrow_rows() -> list[Row]:
    """The rows for 16-bit floats; units are passes over their own, half as many bytes."""
    by_share = {50: (peers.partition(0.5), peers.kthvalue(0.5)), 90: (peers.partition(0.9), peers.topk(0.9))}
    return [
        *(
            Row(f"{THRESHOLD}, {q} %", "normal", "R", at_most(4.0), operations.percentile(q), others, SMALL)
            for q, others in by_share.items()
        ),
        Row("exactly a tenth kept, in place", "normal", "S", None, operations.zero_smallest(0.9)),
        Row("zero below a threshold", "normal", "S", None, operations.zero_below),
        Row("apply a mask of bool", "normal", "S", None, operations.apply_bool),
        Row(SUMMARY, "normal", "R", None, operations.summary),
    ]
