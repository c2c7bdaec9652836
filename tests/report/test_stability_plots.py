"""The chart of several runs holds the numbers of their table."""

from __future__ import annotations

import numpy as np

from secateur.report import stability_figure
from secateur.stability import compare


def test_overlaps_and_what_is_kept_are_drawn_beside_chance() -> None:
    random = np.random.default_rng(0)
    runs = [{"a": random.random((4, 5)) < 0.5, "b<c>": random.random(30) < 0.2} for _ in range(3)]
    stability = compare(runs, [0.5, 0.6, 0.7])
    figure = stability_figure(stability)
    overlaps, chances, kept = figure.data
    for place, layer in enumerate((*stability.layers, stability.total)):
        assert overlaps.x[place] == layer.overlap and chances.x[place] == layer.chance
        np.testing.assert_allclose(overlaps.x[place] + overlaps.error_x.array[place], max(layer.overlaps))
        np.testing.assert_allclose(overlaps.x[place] - overlaps.error_x.arrayminus[place], min(layer.overlaps))
        np.testing.assert_allclose(kept.x[place], layer.kept_share)
    assert figure.layout.yaxis.ticktext == ("a", "b&lt;c&gt;", "total")
    assert overlaps.customdata[1] == "b&lt;c&gt;"
