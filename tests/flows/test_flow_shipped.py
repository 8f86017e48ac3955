"""The shipped 4 x 4 flow is what its figures say."""

import csv
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch

from rram_host.errors import InputError
from rram_host.flows import checkpoint, ship
from rram_host.flows.coupling import FlowSettings
from rram_host.flows.presets import PHI4_L4, PRESETS
from rram_host.flows.training import TrainLog, TrainSettings
from rram_host.lattice.exact import EXACT_M2, exact_4x4
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.observables import measure
from rram_host.lattice.reweighting import effective_sample_size, log_z

_N = 32_768


@pytest.fixture(scope="module")
def drawn(loaded: checkpoint.LoadedFlow) -> tuple[torch.Tensor, np.ndarray]:
    phi, log_q = loaded.flow.sample(_N, torch.Generator().manual_seed(20))
    return phi, (-loaded.action(phi) - log_q).numpy()


def test_effective_samples_and_acceptance(drawn: tuple[torch.Tensor, np.ndarray]) -> None:
    assert effective_sample_size(drawn[1]) >= 0.97
    chain = independence_chain(drawn[1], np.random.default_rng(0))
    assert chain.acceptance >= 0.91
    assert chain.longest_rejection < 100


def test_log_z_is_exact(drawn: tuple[torch.Tensor, np.ndarray]) -> None:
    value, error = log_z(drawn[1])
    # 3 standard errors of one number at a fixed seed; the error itself is about 6e-4
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error
    assert error < 2e-3


@pytest.mark.parametrize("name", ["absM", "chi2", "E", "phi2"])
def test_reweighted_observables_are_exact(
    drawn: tuple[torch.Tensor, np.ndarray], name: str
) -> None:
    phi, log_w = drawn
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    values = measure(phi)[name].numpy()
    mean = float((w * values).sum())
    error = float(np.sqrt((w**2 * (values - mean) ** 2).sum()))
    exact = exact_4x4(5.5)
    expected = {"absM": exact.abs_m, "chi2": exact.chi2, "E": exact.energy, "phi2": exact.phi2}
    # 3 standard errors: four correlated values at a fixed seed
    assert abs(mean - expected[name]) < 3 * error


def test_round_trip(loaded: checkpoint.LoadedFlow) -> None:
    z = loaded.flow.draw(1000, torch.Generator().manual_seed(2))
    with torch.no_grad():
        phi, log_q = loaded.flow.push(z)
        back, density = loaded.flow.inverse(phi)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-5)
    torch.testing.assert_close(density, log_q, rtol=0, atol=1e-4)


def test_weights_fit_a_bounded_range(loaded: checkpoint.LoadedFlow) -> None:
    total = 0
    for product in loaded.flow.products().values():
        w = product.weight().detach()
        total += w.numel()
        assert float(w.abs().max()) == pytest.approx(1.0)
        assert float(w.abs().max() / w.pow(2).mean().sqrt()) < 4
        assert product.lora_b is not None
        assert not bool(product.lora_b.any())  # the correction is unused until a repair
    assert total == 768


def test_metadata_holds_the_preset_and_the_figures(loaded: checkpoint.LoadedFlow) -> None:
    metadata = loaded.metadata
    assert (FlowSettings(**metadata["flow"]), TrainSettings(**metadata["train"])) == PHI4_L4
    assert loaded.action == PHI4_L4[1].action
    assert loaded.action.m2 == EXACT_M2
    again = ship.figures(loaded.flow, loaded.action)
    for name, value in metadata["extra"]["figures"].items():
        if name == "longest_rejection":
            continue  # one accept-reject decision that rounds otherwise may change it
        assert again[name] == pytest.approx(value, rel=1e-3), name


def test_files_are_small_and_every_preset_is_shipped() -> None:
    assert set(checkpoint.shipped()) == set(PRESETS)
    for path in checkpoint.shipped().values():
        assert path.stat().st_size < 100_000
        with path.with_name(f"{path.stem}.log.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert set(rows[0]) == {field.name for field in fields(TrainLog)}
        assert int(rows[-1]["step"]) == PRESETS[path.stem][1].steps


def test_ship_writes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = asdict(PHI4_L4[1]) | {"steps": 4, "batch": 16, "log_every": 2}
    monkeypatch.setitem(PRESETS, "tiny", (FlowSettings(steps=2), TrainSettings(**short)))
    assert ship.main(["tiny", str(tmp_path)]) == 0
    assert "log_z" in capsys.readouterr().out
    found = checkpoint.load(tmp_path / "tiny.safetensors")
    assert found.metadata["extra"]["figures"]["samples"] == 32_768
    assert len((tmp_path / "tiny.log.csv").read_text().splitlines()) == 3


def test_ship_refuses_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="phi4_L4"):
        ship.configure("phi4_L99")
    assert ship.main([]) == 2
    assert "usage" in capsys.readouterr().out
