"""TensorBoard event files, written through the ``tensorboard`` package alone: no framework is imported.

Steps of the figures by stage count the stages (0 dense, 1 pruned, ...), which a text on the board says too; steps of
histograms and sparsities are 0 before and 1 after pruning; steps of training curves are their own.
"""

from __future__ import annotations

import io
import os
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from secateur.errors import MissingDependencyError
from secateur.report.files import write_bytes
from secateur.report.formats import STAGE_NAMES
from secateur.report.numbers import Curve, Details, Histogram, StageMetrics

FILE_NAME = "events.out.tfevents.0.secateur"
GROUPS = {"weight": "weights", "gradient": "gradients", "score": "scores"}


def write_events(folder: str | os.PathLike[str], stages: Mapping[str, StageMetrics], details: Details) -> Path:
    """Write one event file for one run; an earlier one of Secateur's in the folder is replaced.

    Args:
        folder: the run's log directory.
        stages: figures by stage, in order.
        details: sparsity by layer, histograms before and after, training curves.

    Returns:
        The file written.

    Raises:
        MissingDependencyError: the ``tensorboard`` package is not installed.
    """
    event_pb2, summary_pb2, writer = _tensorboard()
    buffer = io.BytesIO()
    records = writer(buffer)
    moment = time.time()
    records.write(event_pb2.Event(wall_time=moment, file_version="brain.Event:2").SerializeToString())
    for step, value in _values(summary_pb2, stages, details):
        event = event_pb2.Event(wall_time=moment, step=step, summary=summary_pb2.Summary(value=[value]))
        records.write(event.SerializeToString())
    return write_bytes(Path(folder) / FILE_NAME, buffer.getvalue())


def _tensorboard() -> tuple[Any, Any, Any]:
    """The event and summary messages and the record writer, none of which touches TensorFlow."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise MissingDependencyError("event files need tensorboard: pip install 'secateur[report]'") from error
    return event_pb2, summary_pb2, RecordWriter


def _values(messages: Any, stages: Mapping[str, StageMetrics], details: Details) -> Iterator[tuple[int, Any]]:
    """Every (step, summary value) of the run."""
    if stages:
        legend = ", ".join(f"{step} = {STAGE_NAMES.get(name, name)}" for step, name in enumerate(stages))
        yield 0, _text(messages, "stages", f"Steps of the figures by stage: {legend}.")
    for step, stage in enumerate(stages.values()):
        for name, number in stage.to_dict().items():
            if number is not None:
                yield step, messages.Summary.Value(tag=f"stages/{name}", simple_value=number)
    for row in details.layers:
        for step, sparsity in enumerate((0.0, row.sparsity)):
            yield step, messages.Summary.Value(tag=f"sparsity/{row.layer}", simple_value=sparsity)
    for item in details.distributions:
        for step, histogram in enumerate((item.before, item.after)):
            if histogram is not None and histogram.total:
                tag = f"{GROUPS[item.kind]}/{item.parameter}"
                yield step, messages.Summary.Value(tag=tag, histo=_histogram(messages, histogram))
    for curve in details.curves:
        yield from _points(messages, curve)


def _points(messages: Any, curve: Curve) -> Iterator[tuple[int, Any]]:
    whole = all(float(x).is_integer() for x in curve.x)
    for position, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
        value = messages.Summary.Value(tag=f"training/{curve.y_label}/{curve.name}", simple_value=y)
        yield int(x) if whole else position, value


def _histogram(messages: Any, histogram: Histogram) -> Any:
    """TensorBoard's form: upper limits and counts, zeros included, and the tails where there are any."""
    limits = [*histogram.edges, max(histogram.edges[-1], histogram.maximum)]
    counts = [histogram.below, *histogram.counts, histogram.above]
    counts[min(bisect_left(limits, 0.0), len(counts) - 1)] += histogram.zeros
    tails = slice(0 if counts[0] else 1, None if counts[-1] else -1)
    total = histogram.total
    return messages.HistogramProto(
        min=histogram.minimum,
        max=histogram.maximum,
        num=total,
        sum=histogram.mean * total,
        sum_squares=(histogram.std**2 + histogram.mean**2) * total,
        bucket_limit=limits[tails],
        bucket=counts[tails],
    )


def _text(messages: Any, tag: str, text: str) -> Any:
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    plugin = messages.SummaryMetadata.PluginData(plugin_name="text")
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    return messages.Summary.Value(tag=tag, metadata=messages.SummaryMetadata(plugin_data=plugin), tensor=tensor)
