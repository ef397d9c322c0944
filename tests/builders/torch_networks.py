"""Multi-quantile networks as a user of PyTorch writes them, and the files that PyTorch itself makes of them."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional

SPEC = {
    "format": "uqueue-mqnn/1",
    "n_features": 8,
    "layers": [
        {"type": "Normalization", "mean": "mean", "variance": "variance"},
        {"type": "Linear", "name": "body.0"},
        {"type": "ReLU"},
        {"type": "Dropout", "p": 0.1},
        {"type": "Linear", "name": "body.3"},
        {"type": "ReLU"},
    ],
    "heads": ["q0", "q1"],
}


class Mqnn(nn.Module):
    """Normalization, Linear, ReLU, Dropout, Linear, ReLU, two heads."""

    def __init__(self, features: int = 8, targets: int = 2, hidden: int = 16, rate: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(features))
        self.register_buffer("variance", torch.rand(features) + 0.5)
        self.body = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(rate), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.q0 = nn.Linear(hidden, targets)
        self.q1 = nn.Linear(hidden, targets)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.body((x - self.mean) / torch.sqrt(self.variance))
        return self.q0(h), self.q1(h)


class Stacked(Mqnn):
    """The same with one output of (rows, 2, targets)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        h = self.body((x - self.mean) / torch.sqrt(self.variance))
        return torch.stack([self.q0(h), self.q1(h)], dim=1)


class Monotone(Mqnn):
    """The upper quantile is the lower one and something positive; dropout is functional and always on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        h = functional.dropout(self.body((x - self.mean) / torch.sqrt(self.variance)), 0.2, True)
        lower = self.q0(h)
        return torch.stack([lower, lower + functional.softplus(self.q1(h))], dim=1).view(x.size(0), 2, -1)


class Zoo(nn.Module):
    """Every layer that is served, one after the other."""

    def __init__(self, features: int = 8, hidden: int = 16) -> None:
        super().__init__()
        layers = [
            nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.GELU(),
            nn.LayerNorm(hidden), nn.ELU(), nn.Linear(hidden, hidden, bias=False), nn.LeakyReLU(), nn.Softplus(),
            nn.Dropout(0.3), nn.ReLU6(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Hardtanh(), nn.PReLU(), nn.Softsign(),
            nn.Linear(hidden, hidden), nn.Mish(), nn.SELU(), nn.Sigmoid(), nn.CELU(), nn.Hardswish(), nn.Hardsigmoid(),
            nn.LogSigmoid(), nn.GELU("tanh"), nn.Tanh(), nn.Identity(),
        ]  # fmt: skip
        self.first = nn.Linear(features, hidden)
        self.body = nn.Sequential(*layers)
        self.heads = nn.Linear(2 * hidden, 4)
        with torch.no_grad():
            for layer in layers:
                if isinstance(layer, nn.BatchNorm1d):
                    layer.running_mean.normal_()
                    layer.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        wide = torch.cat([self.body(first), torch.softmax(first, dim=1)], dim=1)
        left, right = torch.chunk(wide, 2, dim=-1)
        shifted = torch.cat([left * 2 + 1, 1 - right.clamp(min=0.0)], 1)
        return self.heads(shifted).reshape(-1, 2, 2).cumsum(1)


def made(network: type[nn.Module], seed: int = 0, **settings: Any) -> nn.Module:
    """Return a network with weights of this seed, in evaluation mode."""
    torch.manual_seed(seed)
    return network(**settings).eval()


def spec_bytes(network: nn.Module, **changes: Any) -> bytes:
    """Return the spec file of an `Mqnn`."""
    buffer = io.BytesIO()
    torch.save({"uqueue_spec": json.dumps({**SPEC, **changes}), "state_dict": network.state_dict()}, buffer)
    return buffer.getvalue()


def script_bytes(network: nn.Module, **extra: Any) -> bytes:
    """Return the TorchScript file that torch.jit.script gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit itself
        return _saved(torch.jit.script(network), **extra)


def traced_bytes(network: nn.Module, features: int = 8) -> bytes:
    """Return the TorchScript file that torch.jit.trace gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _saved(torch.jit.trace(network, torch.zeros(3, features), check_trace=False))


def _saved(script: Any, **extra: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(script, buffer, **extra)
    return buffer.getvalue()
