"""A network made ready for export: batch normalisation folded in, and in 16 bits what bears it."""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dseg_core.errors import DsegError


def folded(network: nn.Module) -> nn.Module:
    """A copy, in eval mode, with every batch normalisation that follows a convolution made part of it.

    ONNX Runtime and TensorRT do that as well, but in 16 bits after the statistics were rounded, and a quantiser would
    take the convolution's weights as they were before.
    """
    copied = copy.deepcopy(network).eval()
    for sequence in [module for module in copied.modules() if isinstance(module, nn.Sequential)]:
        for place in range(len(sequence) - 1):
            first, second = sequence[place], sequence[place + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                sequence[place], sequence[place + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return copied


class HalfNetwork(nn.Module):
    """A network with weights and arithmetic in 16 bits, but layer norms and soft-max in 32.

    Its input and its logits are float32. Every change of type is an explicit cast, as strongly typed TensorRT wants it.

    Args:
        network: In eval mode, float32; it is left as it is.

    Raises:
        DsegError: It has attention of which it is not known how to take the soft-max apart.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(network).half()
        for name, module in network.named_modules():
            if isinstance(module, nn.LayerNorm):
                _replace(self.inner, name, _Norm32(copy.deepcopy(module)))
        for name, module in list(self.inner.named_modules()):
            if isinstance(module, Attention):
                _replace(self.inner, name, _Attention32(module))
            elif hasattr(module, "fused_attn"):
                raise DsegError(
                    f"the network's {type(module).__name__} cannot be exported in 16 bits", fix="Use --precision fp32"
                )

    def forward(self, image: Tensor) -> Tensor:
        """As the network's own, float32 in and out."""
        logits: Tensor = self.inner(image.half())
        return logits.float()


class _Norm32(nn.Module):
    """A layer norm in 32 bits between neighbours in 16."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        found = F.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return found.to(x.dtype)


class _Attention32(nn.Module):
    """Timm's self-attention with its soft-max in 32 bits."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.of = attention
        if getattr(attention, "gate", None) is not None:
            raise DsegError("gated attention cannot be exported in 16 bits", fix="Use --precision fp32")

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Tokens (B, N, D) to (B, N, D)."""
        if any(value is not None and value is not False for value in (*args, *kwargs.values())):
            raise NotImplementedError("masks of attention")
        of, (batch, length, _) = self.of, x.shape
        parts = of.qkv(x).reshape(batch, length, 3, of.num_heads, of.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        # Scaled first, as timm does: the products of 16 bits overflow otherwise.
        scores = (of.q_norm(q) * of.scale) @ of.k_norm(k).transpose(-2, -1)
        mixed = scores.float().softmax(dim=-1).to(v.dtype) @ v
        joined = of.norm(mixed.transpose(1, 2).reshape(batch, length, -1))
        found: Tensor = of.proj(joined)
        return found


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
