"""Sums over a lattice with kernels that have its symmetries: by matrices, or by Fourier modes."""

from typing import Protocol

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.prior import momentum_classes

__all__ = ["Dense", "Fourier", "Measured", "Operator", "kernels_of"]

# Up to this volume V a product with V x V numbers is cheaper than two FFTs (one core).
_DENSE_UP_TO = 200


class Operator(Protocol):
    """F kernels W_f(x - y) at one time."""

    def gather(self, features: Tensor) -> Tensor:
        """Sum of W_f(x - y) h_f(y) over f and y: (n, F, V) to (n, V)."""
        ...

    def spread(self, field: Tensor) -> Tensor:
        """Its transpose, sum of W_f(x - y) G(x) over x: (n, V) to (n, F, V)."""
        ...


class Dense(nn.Module):
    """Circulant matrices: one product with (F V, V) numbers; best on small lattices."""

    pairs: Tensor

    def __init__(self, shape: tuple[int, int]) -> None:
        """Find the class of the displacement of every pair of sites of a lattice (L0, L1)."""
        super().__init__()
        # Displacements fall into the same classes as momenta.
        classes = momentum_classes(shape)
        moves = [(i, j) for i in range(shape[0]) for j in range(shape[1])]
        pairs = torch.stack([classes.roll(move, (0, 1)).flatten() for move in moves])
        self.volume = classes.numel()
        members = nn.functional.one_hot(pairs.flatten()).T.contiguous()
        self.register_buffer("pairs", members.to(torch.get_default_dtype()), persistent=False)

    def operators(self, table: Tensor) -> list[Operator]:
        """One operator for each time of a table (T, F, C) of kernels by displacement class."""
        times, frequencies, classes = table.shape
        # A product with zeros and ones expands all of them, and is fast to differentiate.
        wide = table.reshape(-1, classes) @ self.pairs.to(table.dtype)
        stack = wide.reshape(times, frequencies * self.volume, self.volume)
        return [_Matrix(matrix) for matrix in stack.unbind()]


class _Matrix:
    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix  # (F V, V)

    def gather(self, features: Tensor) -> Tensor:
        return features.flatten(1) @ self._matrix

    def spread(self, field: Tensor) -> Tensor:
        return (field @ self._matrix.T).reshape(len(field), -1, field.shape[1])


class Fourier(nn.Module):
    """Products of Fourier modes; best on large lattices."""

    classes: Tensor

    def __init__(self, shape: tuple[int, int]) -> None:
        """Find the class of every displacement on a lattice (L0, L1)."""
        super().__init__()
        self.shape = shape
        self.register_buffer("classes", momentum_classes(shape), persistent=False)

    def operators(self, table: Tensor) -> list[Operator]:
        """One operator for each time of a table (T, F, C) of kernels by displacement class."""
        # Even kernels have real modes.
        modes = torch.fft.rfft2(table[:, :, self.classes]).real
        return [_Modes(each, self.shape) for each in modes.unbind()]


class _Modes:
    def __init__(self, modes: Tensor, shape: tuple[int, int]) -> None:
        self._modes, self._shape = modes, shape  # (F, L0, L1 // 2 + 1)

    def gather(self, features: Tensor) -> Tensor:
        seen = torch.fft.rfft2(features.reshape(*features.shape[:2], *self._shape))
        out: Tensor = torch.fft.irfft2((seen * self._modes).sum(1), s=self._shape)
        return out.flatten(1)

    def spread(self, field: Tensor) -> Tensor:
        seen = torch.fft.rfft2(field.reshape(-1, 1, *self._shape))
        out: Tensor = torch.fft.irfft2(seen * self._modes, s=self._shape)
        return out.flatten(2)


def kernels_of(shape: tuple[int, int]) -> Dense | Fourier:
    """The faster way on a lattice (L0, L1)."""
    return Dense(shape) if shape[0] * shape[1] <= _DENSE_UP_TO else Fourier(shape)


class Measured:
    """An operator whose product is not a matrix: it takes vectors and answers, perhaps with noise.

    Args:
        product: (m, F (C - 1)) to (m, D), called once a `gather`.
        means: for each class but the site itself, the operator that takes the mean of its members.
        features: time features, (D,).
        onsite: weights of the site itself, (F,).
    """

    def __init__(
        self, product: nn.Module, means: list[Operator], features: Tensor, onsite: Tensor
    ) -> None:
        self._product, self._means = product, means
        self._features, self._onsite = features, onsite

    def gather(self, features: Tensor) -> Tensor:
        """See `Operator`."""
        n, frequencies, volume = features.shape
        alone = features.reshape(-1, 1, volume)
        seen = torch.stack([each.gather(alone) for each in self._means], -1)
        seen = seen.reshape(n, frequencies, volume, -1).transpose(1, 2)
        read: Tensor = self._product(seen.reshape(n * volume, -1)).reshape(n, volume, -1)
        own: Tensor = torch.tensordot(features, self._onsite, ([1], [0]))
        return read @ self._features + own

    def spread(self, field: Tensor) -> Tensor:
        """Refused: what is read has no transpose.

        Raises:
            InputError: always.
        """
        raise InputError(
            "training a continuous flow needs the matrix of its product, which has been replaced "
            f"(field of shape {tuple(field.shape)})"
        )
