"""Convolutions as one matrix product on patch vectors, so that they, too, can run on an array."""

from typing import Literal

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.product import AdaptedLinear

__all__ = ["AdaptedConv2d", "AdaptedConvTranspose2d", "Padding"]

Padding = Literal["circular", "zeros", "none"]


class AdaptedConv2d(nn.Module):
    """Two-dimensional convolution y = W patch(x) + b, with W one `AdaptedLinear`.

    Every output site is one product of W (out, in k k) with the k x k patch of the input around
    it, in the order (channel, row, column) of torch's own weights (out, in, k, k). The bias is
    added outside of the product: it is digital.

    Attributes:
        product: W, called once with the patches of all sites, (n sites, in k k).
        bias: b (out,), starting at zero; None without.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: Padding = "circular",
        rank: int = 0,
        generator: torch.Generator | None = None,
        *,
        bias: bool = True,
    ) -> None:
        """Draw the weights as `AdaptedLinear` does.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            kernel: side k of the square kernel.
            stride: sites from one patch to the next.
            padding: "circular" or "zeros" add k - 1 sites (one more after than before where k is
                even), so that stride 1 keeps the lattice's shape; "none" adds nothing.
            rank: of the low-rank correction; 0 for none.
            generator: source of the weights; None for a fixed one.
            bias: whether to add one.

        Raises:
            InputError: for a size below 1, an unknown padding or a rank out of range.
        """
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel, stride)
        if padding not in ("circular", "zeros", "none"):
            raise InputError(f"padding must be circular, zeros or none, got {padding!r}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.product = AdaptedLinear(in_channels * kernel**2, out_channels, rank, generator)
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (n, in, L0, L1); returns (n, out, M0, M1), one call of the product.

        Raises:
            InputError: for another shape, or a lattice smaller than the kernel.
        """
        vectors, (rows, cols) = self.patches(x)
        y: Tensor = self.product(vectors)
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(len(x), rows, cols, self.out_channels).permute(0, 3, 1, 2)

    def patches(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The vectors (n M0 M1, in k k) that the product takes for x, and (M0, M1)."""
        _check_field(x, self.in_channels)
        k, step = self.kernel, self.stride
        if self.padding != "none" and k > 1:
            before, after = (k - 1) // 2, k // 2
            mode = "circular" if self.padding == "circular" else "constant"
            if self.padding == "circular" and after > min(x.shape[2:]):
                raise InputError(f"a circular kernel {k} wraps more than once on {_shape(x)} sites")
            x = nn.functional.pad(x, (before, after, before, after), mode=mode)
        if min(x.shape[2:]) < k:
            raise InputError(f"a kernel {k} does not fit on {_shape(x)} sites")
        rows, cols = ((length - k) // step + 1 for length in x.shape[2:])
        windows = nn.functional.unfold(x, k, stride=step)  # (n, in k k, M0 M1)
        return windows.transpose(1, 2).reshape(-1, x.shape[1] * k * k), (rows, cols)


class AdaptedConvTranspose2d(nn.Module):
    """Transposed convolution whose stride is its kernel: every site becomes a k x k patch.

    One product of W (out k k, in) for each input site; W is torch's own weight (in, out, k, k),
    flattened and transposed. No two patches overlap, so nothing is summed outside of the product.

    Attributes:
        product: W, called once with all sites, (n sites, in).
        bias: (out,), starting at zero; None without.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        rank: int = 0,
        generator: torch.Generator | None = None,
        *,
        bias: bool = True,
    ) -> None:
        """Draw the weights as `AdaptedLinear` does; arguments as of `AdaptedConv2d`.

        Raises:
            InputError: for a size below 1 or a rank out of range.
        """
        super().__init__()
        _check_sizes(in_channels, out_channels, kernel, kernel)
        self.in_channels, self.out_channels, self.kernel = in_channels, out_channels, kernel
        self.product = AdaptedLinear(in_channels, out_channels * kernel**2, rank, generator)
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """Spread x (n, in, M0, M1) to (n, out, k M0, k M1), one call of the product.

        Raises:
            InputError: for another shape.
        """
        _check_field(x, self.in_channels)
        n, _, rows, cols = x.shape
        k = self.kernel
        y: Tensor = self.product(x.permute(0, 2, 3, 1).reshape(-1, self.in_channels))
        y = y.reshape(n, rows, cols, self.out_channels, k, k).permute(0, 3, 1, 4, 2, 5)
        y = y.reshape(n, self.out_channels, rows * k, cols * k)
        return y if self.bias is None else y + self.bias[:, None, None]


def _check_sizes(in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
    sizes = (in_channels, out_channels, kernel, stride)
    if min(sizes) < 1:
        raise InputError(f"a convolution needs channels, kernel and stride >= 1, got {sizes}")


def _check_field(x: Tensor, channels: int) -> None:
    if x.dim() != 4 or x.shape[1] != channels:
        raise InputError(
            f"this convolution takes (n, {channels}, L0, L1), got shape {tuple(x.shape)}"
        )


def _shape(x: Tensor) -> str:
    return " x ".join(str(length) for length in x.shape[2:])
