"""What becomes of smaller models: compiled, run by ONNX runtime, loaded in a new process from the original's code."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

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
    """PyTorch's attention becomes one of Secateur's."""

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


class Spelled(nn.Module):
    """Shrinks as an exported graph, for the sizes in its code; a causal language model as many are written."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.head = nn.Embedding(20, 12), nn.LayerNorm(12), nn.Linear(12, 20)
        self.qkv, self.out, self.dropout = nn.Linear(12, 36), nn.Linear(12, 12), 0.5

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        batch, time, width = x.shape
        parts = [part.view(batch, time, 4, width // 4).transpose(1, 2) for part in self.qkv(x).split(12, dim=2)]
        rate = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(*parts, dropout_p=rate, is_causal=True)
        return self.head(self.norm(x + self.out(mixed.transpose(1, 2).reshape(batch, time, width))))


class Sized(nn.Module):
    """Shrinks as it is, with other attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 4, 12
        self.query, self.key, self.value, self.out = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (*x.shape[:2], self.heads, self.width // self.heads)
        q, k, v = (layer(x).view(size).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=0.5)
        return x + self.out(mixed.transpose(1, 2).reshape(*x.shape[:2], self.width))


EXAMPLES: dict[type[nn.Module], Any] = {
    Convolutions: torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8),
    Transformer: torch.arange(10).reshape(2, 5),
    Recurrent: torch.linspace(-1, 1, 2 * 6 * 5).reshape(2, 6, 5),
    Spelled: torch.arange(10).reshape(2, 5),
    Sized: torch.linspace(-1, 1, 2 * 4 * 12).reshape(2, 4, 12),
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
@pytest.mark.filterwarnings("ignore")
def test_it_trains_a_further_step_is_copied_and_pickled(kind: type[nn.Module]) -> None:
    small, x = pruned(kind).compact().train(), EXAMPLES[kind]
    optimizer = torch.optim.Adam(small.parameters(), lr=0.01)
    before = copy.deepcopy(small.state_dict())
    small(x).square().mean().backward()
    optimizer.step()
    changed = [not torch.equal(before[name], parameter) for name, parameter in small.named_parameters()]
    assert sum(changed) > len(changed) / 2
    expected = small.eval()(x)
    assert torch.equal(copy.deepcopy(small)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(small))(x), expected)


RESTORING = """
import sys
from pathlib import Path
import numpy as np, torch
import secateur_torch as st
from secateur_torch_deployment import EXAMPLES
for kind, x in EXAMPLES.items():
    folder = Path(sys.argv[1]) / kind.__name__
    expected = np.load(folder / "expected.npy")
    small = st.load(folder / "saved", model=kind(), example=x).compact().eval()
    np.testing.assert_allclose(small(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    for parameter in small.parameters():
        torch.nn.init.zeros_(parameter)
    small.load_state_dict(torch.load(folder / "weights.pt"))
    np.testing.assert_allclose(small(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
print(len(EXAMPLES))
"""


def test_a_new_process_restores_them_from_the_code_of_the_originals(tmp_path: Path) -> None:
    for kind, x in EXAMPLES.items():
        session = pruned(kind)
        session.save(tmp_path / kind.__name__ / "saved")
        small = session.compact()
        torch.save(small.state_dict(), tmp_path / kind.__name__ / "weights.pt")
        np.save(tmp_path / kind.__name__ / "expected.npy", small(x).detach().numpy())
    (tmp_path / "secateur_torch_deployment.py").write_text(Path(__file__).read_text())
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\n{RESTORING}", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(len(EXAMPLES))]
