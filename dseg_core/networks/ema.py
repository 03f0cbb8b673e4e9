"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Average of a network's state. `state`: name -> tensor, as `nn.Module.state_dict`.

    The decay warms up as (1 + t) / (10 + t), so that the first weights, which know nothing, do not linger. Running
    statistics of batch normalisation are averaged like weights; counters are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step` (0-based): average = d * average + (1 - d) * weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, 1 - decay)
            else:
                self.state[name].copy_(tensor)

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved `state`."""
        for name, tensor in state.items():
            self.state[name].copy_(tensor)
