"""Convolutions as products on patch vectors, against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.convolution import AdaptedConv2d, AdaptedConvTranspose2d, Padding


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _field(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator(), dtype=torch.float64)


def _perturbed(module: nn.Module) -> None:
    """Every parameter away from its start: bias and correction take part."""
    generator = _generator()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype), alpha=0.3)


@pytest.mark.parametrize("padding", ["circular", "zeros", "none"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (2, 1), (3, 3), (2, 2), (5, 2)])
def test_convolution_is_torchs(padding: Padding, kernel: int, stride: int) -> None:
    layer = AdaptedConv2d(2, 3, kernel, stride, padding, 1, _generator()).double()
    _perturbed(layer)
    x = _field(4, 2, 6, 8)
    weight = layer.product.matrix().reshape(3, 2, kernel, kernel)
    before, after = (kernel - 1) // 2, kernel // 2
    if padding != "none":
        mode = "circular" if padding == "circular" else "constant"
        padded = nn.functional.pad(x, (before, after, before, after), mode=mode)
    else:
        padded = x
    expected = nn.functional.conv2d(padded, weight, layer.bias, stride)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_transposed_convolution_is_torchs(kernel: int) -> None:
    layer = AdaptedConvTranspose2d(4, 3, kernel, 1, _generator()).double()
    _perturbed(layer)
    x = _field(5, 4, 2, 3)
    weight = layer.product.matrix().T.reshape(4, 3, kernel, kernel)
    expected = nn.functional.conv_transpose2d(x, weight, layer.bias, kernel)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


class _Counting(nn.Module):
    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        y: Tensor = self.base(x)
        return y


def test_product_is_called_once_on_patch_vectors() -> None:
    conv = AdaptedConv2d(2, 3, 3, padding="circular", generator=_generator()).double()
    back = AdaptedConvTranspose2d(3, 2, 2, generator=_generator()).double()
    counts = []
    for layer in (conv, back):
        layer.product.base = counting = _Counting(layer.product.base)
        counts.append(counting.shapes)
    back(conv(_field(5, 2, 4, 6)))
    assert counts == [[(5 * 24, 18)], [(5 * 24, 3)]]


def test_no_bias_and_gradients() -> None:
    layer = AdaptedConv2d(1, 2, 3, rank=1, generator=_generator(), bias=False).double()
    _perturbed(layer)
    assert layer.bias is None
    layer(_field(2, 1, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in layer.parameters())


def test_bad_input() -> None:
    with pytest.raises(InputError, match=">= 1"):
        AdaptedConv2d(1, 0, 3)
    with pytest.raises(InputError, match="padding"):
        AdaptedConv2d(1, 1, 3, padding="mirror")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\(n, 2, L0, L1\)"):
        AdaptedConv2d(2, 1, 3)(torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="does not fit"):
        AdaptedConv2d(1, 1, 5, padding="none")(torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="wraps more than once"):
        AdaptedConv2d(1, 1, 7)(torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match=r"\(n, 3, L0, L1\)"):
        AdaptedConvTranspose2d(3, 1, 2)(torch.zeros(1, 1, 4, 4))
