"""The conditioner of the published flow: patches, mixer blocks, and a regression for each site."""

import torch
from torch import Tensor, nn

from rram_host.flows.convolution import AdaptedConv2d, AdaptedConvTranspose2d
from rram_host.flows.mixer.layout import PatchLayout
from rram_host.flows.mixer.norms import StepNorm
from rram_host.flows.mixer.settings import MixerSettings
from rram_host.flows.product import AdaptedLinear

__all__ = ["Mixer", "MixerBlock", "Regression"]


class MixerBlock(nn.Module):
    """x <- x + token(x), x <- x + channel(x), x <- StepNorm(x), for tokens x (n, P, dim).

    Both halves are W2 relu(LayerNorm(W1 LayerNorm(x))): `token` over the P patches, channel by
    channel, `channel` over the channels, patch by patch (Tolstikhin et al., arXiv 2105.01601).
    """

    def __init__(self, settings: MixerSettings, generator: torch.Generator) -> None:
        super().__init__()
        tokens, dim, hidden, rank = (
            settings.tokens,
            settings.dim,
            settings.hidden,
            settings.lora_rank,
        )
        self.token_norm = nn.LayerNorm(dim)
        self.token_in = AdaptedLinear(tokens, hidden, rank, generator)
        self.token_hidden = nn.LayerNorm(hidden)
        self.token_out = AdaptedLinear(hidden, tokens, rank, generator)
        self.channel_norm = nn.LayerNorm(dim)
        self.channel_in = AdaptedLinear(dim, hidden, rank, generator)
        self.channel_hidden = nn.LayerNorm(hidden)
        self.channel_out = AdaptedLinear(hidden, dim, rank, generator)
        self.norm = StepNorm(tokens, settings.steps)

    def forward(self, x: Tensor, step: int) -> Tensor:
        """Tokens x (n, P, dim) to tokens."""
        n, tokens, dim = x.shape
        rows = self.token_norm(x).transpose(1, 2).reshape(n * dim, tokens)
        y: Tensor = self.token_out(torch.relu(self.token_hidden(self.token_in(rows))))
        x = x + y.view(n, dim, tokens).transpose(1, 2)
        rows = self.channel_norm(x).reshape(n * tokens, dim)
        y = self.channel_out(torch.relu(self.channel_hidden(self.channel_in(rows))))
        out: Tensor = self.norm(x + y.view(n, tokens, dim), step, axis=1)
        return out


class Regression(nn.Module):
    """Three products with norms before and between: 2 dim channels of a site to (s, t)."""

    def __init__(self, settings: MixerSettings, generator: torch.Generator) -> None:
        super().__init__()
        dim, steps = settings.dim, settings.steps
        self.norms = nn.ModuleList(StepNorm(size, steps) for size in (2 * dim, dim, dim))
        self.products = nn.ModuleList(
            AdaptedLinear(into, out, 0, generator)
            for into, out in ((2 * dim, dim), (dim, dim), (dim, 2))
        )

    def forward(self, x: Tensor, step: int) -> Tensor:
        """Channels x (m, 2 dim) of m sites to (m, 2)."""
        for norm, product in zip(self.norms, self.products, strict=True):
            x = product(torch.relu_(norm(x, step)))
        return x

    def product(self, index: int) -> AdaptedLinear:
        """Product 0, 1 or 2."""
        product: AdaptedLinear = self.get_submodule(f"products.{index}")  # type: ignore[assignment]
        return product

    def norm(self, index: int) -> StepNorm:
        """The norm before product 0, 1 or 2."""
        norm: StepNorm = self.get_submodule(f"norms.{index}")  # type: ignore[assignment]
        return norm


class Mixer(nn.Module):
    """Shift t and log-scale s of the active sites, from the frozen ones (active ones are zero).

    3 x 3 convolution of the field (zeros beyond the edge, as published, so it is not covariant
    under translations), norm, one token for each patch; for each block the step's time embedding
    added and the block; a transposed convolution back to sites; the regression of each site.
    Evaluated at active sites only, which is exact, but for the batch's statistics.
    """

    sites: Tensor
    entries: Tensor

    def __init__(self, settings: MixerSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.layout = PatchLayout.of(settings.shape, settings.patch)
        dim, steps, patch = settings.dim, settings.steps, settings.patch
        self.pixel = AdaptedConv2d(1, dim, 3, 1, "zeros", 0, generator, bias=False)
        self.pixel_norm = StepNorm(dim, steps)
        self.patch = AdaptedConv2d(dim, dim, patch, patch, "none", 0, generator, bias=False)
        self.time = nn.Parameter(torch.randn(settings.blocks, steps, dim, generator=generator))
        self.blocks = nn.ModuleList(MixerBlock(settings, generator) for _ in range(settings.blocks))
        self.unpatch = AdaptedConvTranspose2d(dim, 2 * dim, patch, 0, generator, bias=False)
        self.regression = Regression(settings, generator)
        self.register_buffer("sites", self.layout.sites, persistent=False)
        self.register_buffer("entries", self.layout.entries, persistent=False)

    def forward(
        self, step: int, frozen: Tensor, *, all_sites: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Shift t and log-scale s of one step; each product is called once.

        Args:
            step: 0..K-1; even ones move the even sites.
            frozen: the sites of the other colour, (V/2, n), in the order of `PatchLayout`.
            all_sites: evaluate the frozen sites, too, for the sake of statistics.

        Returns:
            t and s, each (V/2, n), in the dtype of `frozen`.
        """
        dim, n = self.settings.dim, frozen.shape[1]
        image = frozen.new_zeros(n, self.settings.volume, dtype=self.time.dtype)
        image = image.index_copy(1, self.sites[1 - step % 2], frozen.T.to(image.dtype))
        pixels = self.pixel(image.view(n, 1, *self.settings.shape))
        patches = self.patch(self.pixel_norm(pixels, step, axis=1))
        x = patches.flatten(2).transpose(1, 2)
        for block, time in zip(self.blocks, self.time[:, step], strict=True):
            x = block(x + time, step)
        # The product of the transposed convolution alone: to put the patches together into an
        # image and to take it apart again into sites would copy the largest tensor twice.
        channels = self.unpatch.product(x.reshape(-1, dim))
        channels = channels.view(-1, 2 * dim, self.settings.patch**2).transpose(1, 2)
        channels = channels.reshape(n, -1, 2 * dim)
        active = self.entries[step % 2]
        if not all_sites:
            channels = channels.index_select(1, active)
        out: Tensor = self.regression(channels.view(-1, 2 * dim), step).view(n, -1, 2)
        if all_sites:
            out = out.index_select(1, active)
        s, t = out.permute(2, 1, 0).to(frozen.dtype).unbind()
        return t, s

    def mixers(self) -> list[MixerBlock]:
        """The mixer blocks."""
        return [block for block in self.blocks if isinstance(block, MixerBlock)]

    def norms(self) -> list[StepNorm]:
        """Every norm that has statistics."""
        return [module for module in self.modules() if isinstance(module, StepNorm)]

    def products(self) -> dict[str, AdaptedLinear]:
        """Every linear and convolution layer, in the order of the forward pass."""
        found = {"pixel": self.pixel.product, "patch": self.patch.product}
        for index, block in enumerate(self.mixers()):
            for name in ("token_in", "token_out", "channel_in", "channel_out"):
                found[f"block{index}.{name}"] = getattr(block, name)
        found["unpatch"] = self.unpatch.product
        for index in range(3):
            found[f"regression{index}"] = self.regression.product(index)
        return found
