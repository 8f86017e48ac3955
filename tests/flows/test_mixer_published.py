"""The published checkpoint, made exact; skipped where the file is not."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rram_host.errors import InputError
from rram_host.flows import checkpoint
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.mixer import MixerFlow
from rram_host.flows.mixer.published import load_published
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.reweighting import effective_sample_size

CHECKPOINT = Path(__file__).parents[3] / "shared" / "data" / "anf_phi4_12x12_base.zip"
needs_checkpoint = pytest.mark.skipif(
    not CHECKPOINT.is_file(), reason=f"the published checkpoint is not at {CHECKPOINT}"
)


@pytest.fixture(scope="module")
def published() -> LoadedFlow:
    return load_published(CHECKPOINT, statistics=256, seed=1)


def _flow(loaded: LoadedFlow) -> MixerFlow:
    assert isinstance(loaded.flow, MixerFlow)
    return loaded.flow


@needs_checkpoint
def test_settings_and_size(published: LoadedFlow) -> None:
    flow = _flow(published)
    assert published.action == Phi4Action(-4.0, 6.0)
    assert (flow.shape, flow.settings.dim, flow.settings.steps) == ((12, 12), 18, 20)
    numbers = {name: p.numel() for name, p in flow.named_parameters() if ".lora_" not in name}
    assert sum(numbers.values()) - numbers["log_width"] == 17_138
    assert published.metadata["kind"] == "mixer"


@needs_checkpoint
def test_is_what_the_published_code_computes() -> None:
    """Numbers printed by the published code in float64, in training mode, for these 8 draws."""
    flow = _flow(load_published(CHECKPOINT, statistics=0)).double()
    n, site = torch.arange(8.0, dtype=torch.float64)[:, None], torch.arange(144.0).double()
    z = 1.4 * torch.sin(0.7 * n + 1.3 * site + 0.31 * n * site)
    with torch.no_grad():
        phi, log_q = flow.push_with_batch_statistics(z, 1.0)
        frozen = flow.push(z)
    first = [0.2685888234691306, 0.5291632018169184, 0.43376286241593476, -0.0845771413107841]
    densities = [
        -50.62824307679034,
        -38.46803044177068,
        -43.96424880783985,
        -52.80470730923224,
        -52.7496469250693,
        -52.639902447217736,
        -51.11779462833488,
        -51.45185956717563,
    ]
    # the seventeenth digit of z depends on the sine of the machine's library
    np.testing.assert_allclose(phi[0, 0, :4], first, rtol=0, atol=1e-9)
    np.testing.assert_allclose(log_q, densities, rtol=0, atol=1e-8)
    # and with the statistics of that batch frozen, the exact flow agrees on it
    torch.testing.assert_close(frozen[0], phi, rtol=0, atol=1e-10)
    torch.testing.assert_close(frozen[1], log_q, rtol=0, atol=1e-9)


@needs_checkpoint
def test_round_trip_and_batch(published: LoadedFlow) -> None:
    flow = _flow(published)
    z = flow.draw(40, torch.Generator().manual_seed(2))
    with torch.no_grad():
        phi, log_q = flow.push(z)
        alone = flow.push(z[:3])[1]
    back, log_q_back = flow.inverse(phi)
    assert float((back - z).abs().max()) < 1e-5
    assert float((log_q_back - log_q).abs().max()) < 1e-4
    # a float32 mixer rounds its sums otherwise in another batch; published: shifts of a nat
    assert float((alone - log_q[:3]).abs().max()) < 1e-3


@needs_checkpoint
def test_log_jacobian_is_autograds(published: LoadedFlow) -> None:
    flow = _flow(published)
    z = flow.draw(2, torch.Generator().manual_seed(3))
    with torch.no_grad():
        log_q = flow.push(z)[1]
    for one, density in zip(z, log_q, strict=True):
        # fields of a batch are independent: copy i of the draw yields row i of the Jacobian
        copies = one.repeat(144, 1).requires_grad_()
        rows = flow.push(copies)[0].flatten(1).diagonal().sum()
        (jacobian,) = torch.autograd.grad(rows, copies)
        prior = -0.5 * float((one * one).sum()) - 72 * math.log(2 * math.pi)
        expected = prior - float(torch.linalg.slogdet(jacobian)[1])
        assert float(density) == pytest.approx(expected, abs=1e-4)


@needs_checkpoint
def test_quality(published: LoadedFlow) -> None:
    """8192 draws. At N = 65 536 runs scatter about ESS 0.052, acceptance 0.277 and std(log w) 1.432
    by 0.018, 0.009 and 0.005; here by sqrt(8) more, and statistics of 256 draws widen log w by
    0.05. Limits are three times that. With running statistics, or norms misplaced, one weight
    rules: ESS below 0.01, std(log w) of many nats."""
    phi, log_q = published.flow.sample(8192, torch.Generator().manual_seed(4))
    log_w = (-published.action(phi) - log_q).numpy()
    chain = independence_chain(log_w, np.random.default_rng(1))
    assert 0.01 < effective_sample_size(log_w) < 0.052 + 3 * 0.051
    assert abs(chain.acceptance - 0.277) < 3 * 0.026
    assert abs(float(log_w.std()) - 1.48) < 3 * 0.03


@needs_checkpoint
def test_saved_again_it_keeps_its_statistics(published: LoadedFlow, tmp_path: Path) -> None:
    file = tmp_path / "published.safetensors"
    checkpoint.save(file, published.flow, published.action, TrainSettings(), {})
    again = checkpoint.load(file)
    z = _flow(published).draw(4, torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.equal(_flow(again).push(z)[1], _flow(published).push(z)[1])


def test_bad_files(tmp_path: Path) -> None:
    file = tmp_path / "flow.zip"
    with pytest.raises(InputError, match="no such file"):
        load_published(file)
    file.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not a checkpoint"):
        load_published(file)
    torch.save({"state_dict": {}}, file)
    with pytest.raises(InputError, match="not a published checkpoint"):
        load_published(file)
    config = {"n_layers": 2, "hidden_feature": 4, "patch_size": 3, "depth": 2}
    torch.save({"mass2": -4.0, "lambda": 6.0, "state_dict": {}, "model_cfg": config}, file)
    with pytest.raises(InputError, match="lattice_shape"):
        load_published(file)
    config["lattice_shape"] = (6, 6)  # type: ignore[assignment]
    torch.save({"mass2": -4.0, "lambda": 6.0, "state_dict": {}, "model_cfg": config}, file)
    with pytest.raises(InputError, match="tensors missing"):
        load_published(file)


@needs_checkpoint
def test_damaged_weights(tmp_path: Path) -> None:
    content = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
    name = "net.regression.8.fc.weight"
    whole = content["state_dict"][f"3.{name}"]
    for step in range(20):
        content["state_dict"][f"{step}.{name}"] = torch.full((2, 18), math.nan)
    file = tmp_path / "nan.zip"
    torch.save(content, file)
    with pytest.raises(InputError, match="not finite"):
        load_published(file)
    content["state_dict"] |= {f"{step}.{name}": whole for step in range(20)}
    content["state_dict"][f"3.{name}"] = torch.zeros(2, 18)
    torch.save(content, file)
    with pytest.raises(InputError, match="does not share"):
        load_published(file)


def test_the_script_refuses_to_measure_no_runs() -> None:
    script = Path(__file__).parents[2] / "bench_scripts" / "published_anf.py"
    command = [sys.executable, str(script), "--checkpoint", "none.zip", "--runs", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--runs must be >= 1, got 0" in done.stderr
