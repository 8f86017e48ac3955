"""The mixer for fast draws: norms folded into products, neighbours joined, sites in columns."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rram_host.flows.mixer.network import Mixer, MixerBlock
from rram_host.flows.product import AdaptedLinear

__all__ = ["FoldedMixer"]


@dataclass(frozen=True)
class _Half:
    """One half of a block: into = W1 LayerNorm's gain, centred over outputs; out = W2."""

    into: Tensor
    into_bias: Tensor
    gain: Tensor
    shift: Tensor
    out: Tensor
    epsilon: float

    def hidden(self, u: Tensor, axis: int) -> Tensor:
        """relu(LayerNorm(u)) of a u whose mean is zero already; overwrites u."""
        spread = u.square().mean(axis, keepdim=True).add_(self.epsilon).rsqrt_()
        return torch.addcmul(self.shift, u.mul_(spread), self.gain).relu_()


@dataclass(frozen=True)
class _Step:
    """What belongs to one step: affine maps, with matrices scaled where a norm follows."""

    embed: Tensor
    embed_bias: Tensor
    block_scale: list[Tensor]
    block_shift: list[Tensor]
    unpatch: list[tuple[Tensor, Tensor]]
    regression: list[tuple[Tensor, Tensor]]


class FoldedMixer:
    """The numbers of `Mixer`, but for rounding, from constants: no gradient, no replaced product.

    * Convolution, norm and patch embedding are affine in a row: one matrix from frozen sites to
      tokens for each step.
    * A norm with constant statistics after a product scales its rows.
    * The mean that LayerNorm subtracts after a product is taken off its columns.
    * The transposed convolution yields the active sites only.
    * Fields are columns, so every product is W X and every sum runs along the batch.
    """

    def __init__(self, net: Mixer) -> None:
        self._net = net
        self._settings = net.settings
        blocks = net.mixers()
        self._token = [self._token_half(block) for block in blocks]
        self._channel = [_channel_half(block) for block in blocks]
        kernels, biases = self._embedding()
        self._steps = [
            self._step(step, blocks, kernels[step], biases[step])
            for step in range(net.settings.steps)
        ]

    def __call__(self, step: int, frozen: Tensor) -> tuple[Tensor, Tensor]:
        """Shift t and log-scale s of one step, as of `Mixer`: frozen (V/2, n) to twice (V/2, n)."""
        dim, tokens, n = self._settings.dim, self._settings.tokens, frozen.shape[1]
        constants = self._steps[step]
        x = torch.addmm(constants.embed_bias, constants.embed, frozen.to(constants.embed.dtype))
        x = x.view(dim, tokens, n)
        for index, (token, channel) in enumerate(zip(self._token, self._channel, strict=True)):
            u = torch.baddbmm(token.into_bias, token.into, _normalised(x, token.epsilon))
            x = torch.baddbmm(x, token.out, token.hidden(u, 1))
            flat = x.view(dim, tokens * n)
            u = torch.addmm(channel.into_bias, channel.into, _normalised(flat, channel.epsilon))
            x = torch.addmm(flat, channel.out, channel.hidden(u, 0)).view(dim, tokens, n)
            x = torch.addcmul(constants.block_shift[index], x, constants.block_scale[index])
        s, t = self._sites(step, x).to(frozen.dtype).unbind()
        return t, s

    def _sites(self, step: int, x: Tensor) -> Tensor:
        """Stacked s and t (2, V/2, n) of the active sites, from the tokens x (dim, P, n)."""
        constants, (dim, _, n) = self._steps[step], x.shape
        groups = self._net.layout.groups[step % 2]
        found = []
        for group, (matrix, bias) in zip(groups, constants.unpatch, strict=True):
            columns = x[:, group.first : group.last].reshape(dim, -1)
            y = torch.addmm(bias, matrix, columns).relu_().view(2 * dim, -1)
            for weight, offset in constants.regression[:-1]:
                y = torch.addmm(offset, weight, y).relu_()
            found.append((constants.regression[-1][0] @ y).view(2, -1, n))
        return torch.cat(found, 1)

    def _token_half(self, block: MixerBlock) -> _Half:
        order = self._net.layout.patches
        gain, shift = block.token_norm.weight, block.token_norm.bias
        into = _centred(_matrix(block.token_in)[:, order])
        return _Half(
            gain[:, None, None] * into,
            shift[:, None, None] * into.sum(1, keepdim=True),
            block.token_hidden.weight[:, None],
            block.token_hidden.bias[:, None],
            _matrix(block.token_out)[order].expand(self._settings.dim, -1, -1),
            block.token_norm.eps,
        )

    def _embedding(self) -> tuple[Tensor, Tensor]:
        """Kernels (K, dim, p + 2, p + 2) and biases (K, dim) of both convolutions in one."""
        net, dim, patch = self._net, self._settings.dim, self._settings.patch
        affine = [net.pixel_norm.affine(step) for step in range(self._settings.steps)]
        scale, shift = torch.stack([a for a, _ in affine]), torch.stack([b for _, b in affine])
        outer = _matrix(net.patch.product).view(dim, dim, patch, patch)
        inner = _matrix(net.pixel.product).view(dim, 1, 3, 3)
        scaled = (outer * scale[:, None, :, None, None]).flatten(0, 1)
        kernels = nn.functional.conv_transpose2d(scaled, inner)
        return kernels.view(-1, dim, patch + 2, patch + 2), shift @ outer.sum((2, 3)).T

    def _step(self, step: int, blocks: list[MixerBlock], kernel: Tensor, bias: Tensor) -> _Step:
        net, settings, order = self._net, self._settings, self._net.layout.patches
        time = net.time[:, step, :, None, None]
        affine = [block.norm.affine(step) for block in blocks]
        scales = [scale[None, order, None] for scale, _ in affine]
        shifts = [shift[None, order, None] for _, shift in affine]
        # the time embedding of a block is added to the norm of the block before
        shifts = [shift + after for shift, after in zip(shifts, [*time[1:], 0.0], strict=True)]
        embed = torch.einsum("ck,vkp->cpv", kernel.flatten(1), self._windows(1 - step % 2))
        embed_bias = (bias[:, None] + time[0, :, 0]).expand(-1, settings.tokens)
        return _Step(
            embed.reshape(-1, embed.shape[2]),
            embed_bias.reshape(-1, 1),
            scales,
            shifts,
            self._unpatch(step),
            self._regression(step),
        )

    def _windows(self, colour: int) -> Tensor:
        """What a kernel sees of each site of a colour, (V/2, (p + 2)^2, P), zeros and ones."""
        settings = self._settings
        eye = torch.eye(settings.volume, dtype=self._net.time.dtype)[self._net.sites[colour]]
        image = eye.view(-1, 1, *settings.shape)
        windows = nn.functional.unfold(image, settings.patch + 2, 1, 1, settings.patch)
        return windows[:, :, self._net.layout.patches]

    def _unpatch(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """Matrix (2 dim q, dim) and bias for the q active places of each group."""
        dim, patch = self._settings.dim, self._settings.patch
        scale, shift = self._net.regression.norm(0).affine(step)
        matrix = _matrix(self._net.unpatch.product).view(2 * dim, patch * patch, dim)
        matrix = matrix * scale[:, None, None]
        return [
            (
                matrix[:, group.places].reshape(-1, dim),
                shift.repeat_interleave(len(group.places))[:, None],
            )
            for group in self._net.layout.groups[step % 2]
        ]

    def _regression(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """Matrix and bias of the three products, each with the norm that follows it."""
        regression = self._net.regression
        found = []
        for index in (0, 1):
            scale, shift = regression.norm(index + 1).affine(step)
            found.append((_matrix(regression.product(index)) * scale[:, None], shift[:, None]))
        last = _matrix(regression.product(2))
        return [*found, (last, last.new_zeros(2, 1))]


def _channel_half(block: MixerBlock) -> _Half:
    into = _centred(_matrix(block.channel_in))
    return _Half(
        into * block.channel_norm.weight,
        into @ block.channel_norm.bias[:, None],
        block.channel_hidden.weight[:, None],
        block.channel_hidden.bias[:, None],
        _matrix(block.channel_out),
        block.channel_norm.eps,
    )


def _normalised(x: Tensor, epsilon: float) -> Tensor:
    """LayerNorm over the first axis, without gain and shift."""
    x = x - x.mean(0)
    return x.mul_(x.square().mean(0).add_(epsilon).rsqrt_())


def _centred(matrix: Tensor) -> Tensor:
    """W (out, in) less the mean of its outputs: W x then has mean zero."""
    return matrix - matrix.mean(0)


def _matrix(product: AdaptedLinear) -> Tensor:
    return product.matrix().detach()
