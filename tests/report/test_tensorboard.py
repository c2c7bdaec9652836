"""TensorBoard's own reader finds what was written, and no framework is imported on the way."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report.samples import CURVES, all_details, stages
from secateur.errors import MissingDependencyError
from secateur.report import Details, Distribution, Histogram, write_events


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorBoard's reader, told to do without TensorFlow as it is where that is not installed."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def load(path: Path) -> Any:
        return EventAccumulator(str(path), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}).Reload()

    return load


def test_scalars_come_back_at_their_steps(tmp_path: Path, read: Any) -> None:
    told = all_details("weights")
    write_events(tmp_path, stages(), told)
    events = read(tmp_path)
    for name in ("accuracy", "parameters", "latency_ms"):
        found = events.Scalars(f"stages/{name}")
        assert [event.step for event in found] == [0, 1, 2, 3]
        expected = [getattr(stage, name) for stage in stages().values()]
        assert [event.value for event in found] == pytest.approx(expected)
    for row in told.layers:
        assert [event.value for event in events.Scalars(f"sparsity/{row.layer}")] == pytest.approx([0, row.sparsity])
    for curve in CURVES:
        found = events.Scalars(f"training/{curve.y_label}/{curve.name}")
        assert [event.step for event in found] == list(curve.x)
        assert [event.value for event in found] == pytest.approx(curve.y)


def test_histograms_come_back_whole(tmp_path: Path, read: Any) -> None:
    told = all_details("weights")
    events = read(write_events(tmp_path, {}, told).parent)
    for item in told.distributions:
        group = {"weight": "weights", "gradient": "gradients"}[item.kind]
        before, after = events.Histograms(f"{group}/{item.parameter}")
        assert (before.step, after.step) == (0, 1)
        for event, histogram in ((before, item.before), (after, item.after)):
            assert histogram is not None
            value = event.histogram_value
            assert (sum(value.bucket), value.num) == (histogram.total, histogram.total)
            assert (value.min, value.max) == (histogram.minimum, histogram.maximum)
            assert value.sum == pytest.approx(histogram.mean * histogram.total)


@pytest.mark.parametrize(("edges", "place"), [((-1.0, 0.5, 2.0), 1), ((1.0, 2.0, 3.0), 0), ((-3.0, -2.0, -1.0), 3)])
def test_zeros_are_counted_where_they_belong(edges: tuple[float, ...], place: int, tmp_path: Path, read: Any) -> None:
    histogram = Histogram(edges, (1, 1), zeros=40, below=2, above=3, maximum=max(edges[-1], 0.0))
    details = Details(distributions=(Distribution("w", "weight", "weight", histogram),))
    (event,) = read(write_events(tmp_path, {}, details).parent).Histograms("weights/w")
    counts = np.array(event.histogram_value.bucket)
    assert counts.sum() == 47
    assert int(counts.argmax()) == place


def test_the_board_says_what_its_steps_are(tmp_path: Path, read: Any) -> None:
    events = read(write_events(tmp_path, stages(), Details()).parent)
    (tag,) = events.Tags()["tensors"]
    text = events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
    assert text == "Steps of the figures by stage: 0 = dense, 1 = pruned, 2 = fine-tuned, 3 = compact."


def test_writing_again_replaces_the_file(tmp_path: Path, read: Any) -> None:
    write_events(tmp_path, stages(), all_details())
    path = write_events(tmp_path, {"dense": stages()["dense"]}, Details())
    assert list(tmp_path.iterdir()) == [path]
    assert len(read(tmp_path).Scalars("stages/accuracy")) == 1


def test_no_framework_is_imported() -> None:
    program = (
        "import sys, tempfile\n"
        "from report.samples import all_details, stages\n"
        "from secateur.report import write_events\n"
        "write_events(tempfile.mkdtemp(), stages(), all_details())\n"
        "print(sorted({'tensorflow', 'torch', 'keras', 'jax'} & set(sys.modules)))"
    )
    paths = ":".join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": paths})
    assert done.stdout == "[]\n", done.stderr


def test_without_tensorboard_the_error_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'secateur\[report\]'"):
        write_events(tmp_path, stages(), Details())
    assert list(tmp_path.iterdir()) == []
