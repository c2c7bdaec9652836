"""What becomes of smaller models: compiled, run by ONNX runtime, loaded in a new process from the original's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Neurons, Recipe

HALF = Recipe(0.5, Neurons(), scope="layer")


class Convolutions(nn.Module):
    """Shrinks as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3))
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Transformer(nn.Module):
    """Shrinks as an exported graph."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 12)
        layer = nn.TransformerEncoderLayer(12, 4, 24, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.table(tokens)))


class Recurrent(nn.Module):
    """Two layers in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


EXAMPLES: dict[type[nn.Module], Any] = {
    Convolutions: torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8),
    Transformer: torch.arange(10).reshape(2, 5),
    Recurrent: torch.linspace(-1, 1, 2 * 6 * 5).reshape(2, 6, 5),
}


def pruned(kind: type[nn.Module]) -> st.Pruned:
    torch.manual_seed(0)
    return st.prune(kind().eval(), HALF, example=EXAMPLES[kind])


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_compiled_and_in_onnx_runtime_it_gives_the_same(kind: type[nn.Module]) -> None:
    small, x = pruned(kind).compact(), EXAMPLES[kind]
    expected = small(x).detach()
    torch.testing.assert_close(torch.compile(small, backend="aot_eager")(x).detach(), expected, rtol=1e-5, atol=1e-6)
    program = torch.onnx.export(small, (x,), dynamo=True, verbose=False)
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_new_process_restores_it_from_the_code_of_the_original(kind: type[nn.Module], tmp_path: Path) -> None:
    session, x = pruned(kind), EXAMPLES[kind]
    session.save(tmp_path / "saved")
    np.save(tmp_path / "expected.npy", session.compact()(x).detach().numpy())
    code = f"""
import numpy as np, torch
import secateur_torch as st
from secateur_torch_deployment import {kind.__name__}, EXAMPLES
x = EXAMPLES[{kind.__name__}]
small = st.load({str(tmp_path / "saved")!r}, model={kind.__name__}(), example=x).compact().eval()
np.testing.assert_allclose(small(x).detach().numpy(), np.load({str(tmp_path / "expected.npy")!r}), rtol=1e-5, atol=1e-6)
"""
    (tmp_path / "secateur_torch_deployment.py").write_text(Path(__file__).read_text())
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
