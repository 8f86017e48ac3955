"""Products with a low-rank correction."""

import pytest
import torch
from torch import nn

from rram_host.errors import InputError
from rram_host.flows.product import AdaptedLinear


class _Doubling(nn.Module):
    """Stands for a product without a weight; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 2 * x


def test_correction_runs_beside_the_base() -> None:
    product = AdaptedLinear(5, 7, 2).double()
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(product(x), product.base(x))  # B starts at zero
    assert product.lora_a is not None
    assert product.lora_b is not None
    nn.init.ones_(product.lora_b)
    expected = x @ product.weight().T + (x @ product.lora_a.T) @ product.lora_b.T
    torch.testing.assert_close(product(x), expected)
    torch.testing.assert_close(product(x), x @ product.matrix().T)


def test_rank_zero_has_no_further_parameters() -> None:
    product = AdaptedLinear(5, 7, 0)
    assert [name for name, _ in product.named_parameters()] == ["base.weight"]
    assert product.matrix() is product.weight()


@pytest.mark.parametrize("outputs", [True, False])
def test_rescaling_includes_the_correction(outputs: bool) -> None:
    product = AdaptedLinear(5, 7, 2)
    assert product.lora_b is not None
    nn.init.ones_(product.lora_b)
    before = product.matrix().detach().clone()
    scale = torch.arange(1.0, 8.0 if outputs else 6.0)
    product.rescale_(scale, outputs=outputs)
    expected = before * (scale[:, None] if outputs else scale)
    torch.testing.assert_close(product.matrix(), expected)


def test_a_replaced_base_is_called_once_and_has_no_matrix() -> None:
    product, base = AdaptedLinear(4, 4, 1), _Doubling()
    product.base = base
    assert torch.equal(product(torch.ones(1, 4)), torch.full((1, 4), 2.0))
    assert base.calls == 1
    with pytest.raises(InputError, match="_Doubling without a weight"):
        product.matrix()


def test_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    first = AdaptedLinear(4, 4, 1, torch.Generator().manual_seed(3))
    second = AdaptedLinear(4, 4, 1, torch.Generator().manual_seed(3))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.weight(), second.weight())


@pytest.mark.parametrize("sizes", [(0, 4, 0), (4, 0, 0), (4, 6, 5), (4, 6, -1)])
def test_refuses_impossible_sizes(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InputError):
        AdaptedLinear(*sizes)
