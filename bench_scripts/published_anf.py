"""Measure the published adaptive flow (phi^4, 12 x 12, lambda = 6), made exact: quality and speed.

One run says little of ESS and acceptance, because a few draws carry most of the weight: --runs
draws again with other seeds, of the statistics too, and tells how the figures spread.

Example: python bench_scripts/published_anf.py --checkpoint anf_phi4_12x12_base.zip
         python bench_scripts/published_anf.py --checkpoint anf_phi4_12x12_base.zip --runs 16
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from rram_host.analog.ledger import Workload
from rram_host.analog.products import mixer_products
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.mixer.published import load_published
from rram_host.flows.mixer.settings import MixerSettings
from rram_host.lattice.autocorrelation import integrated_time
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.observables import measure
from rram_host.lattice.reweighting import effective_sample_size

# What the published code gives on one core of the machine these scripts were written on, and what
# a flow that is the same should give. A few draws carry most of the weight, so these figures depend
# on the seed by more than their ranges say; see the README of rram_host/flows/mixer.
EXPECTED = {
    "ESS": "0.043 to 0.047",
    "acceptance": "0.25 to 0.27",
    "IACT(M)": "19 to 24",
    "ms a configuration": "1.77",
}


def draws(loaded: LoadedFlow, n: int, batch: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Magnetisation and log w of n draws, each (n,), and what drawing took: wall and CPU, s."""
    generator = torch.Generator().manual_seed(seed)
    loaded.flow.sample(batch, generator)  # the first call pays for memory that the next ones reuse
    magnetisations, weights, seconds = [], [], torch.zeros(2, dtype=torch.float64)
    for first in range(0, n, batch):
        begin = torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)
        phi, log_q = loaded.flow.sample(min(batch, n - first), generator)
        end = torch.tensor([time.perf_counter(), time.process_time()], dtype=torch.float64)
        seconds += end - begin
        magnetisations.append(measure(phi)["M"])
        weights.append(-loaded.action(phi) - log_q)
    return torch.cat(magnetisations), torch.cat(weights), seconds


def expected_acceptance(log_w: npt.NDArray[np.float64]) -> float:
    """Acceptance of a chain without end over these draws, sum_ij min(w_i, w_j) / (N sum_i w_i).

    One chain's own acceptance hangs on how long it stays with its few heaviest draws.
    """
    w = np.sort(np.exp(log_w - log_w.max()))
    pairs = 2.0 * (w.size - np.arange(w.size)) - 1.0  # in which the smaller one is draw k
    return float((w * pairs).sum() / (w.size * w.sum()))


def measured(loaded: LoadedFlow, n: int, batch: int, seed: int) -> dict[str, float]:
    """ESS, acceptance, longest rejection run, IACT(M) and milliseconds a configuration."""
    m, log_w, seconds = draws(loaded, n, batch, seed)
    chain = independence_chain(log_w.numpy(), np.random.default_rng(seed))
    tau = integrated_time(m.numpy()[chain.indices])
    return {
        "draws": n,
        "ESS": effective_sample_size(log_w.numpy()),
        "std(log w)": float(log_w.std()),
        "acceptance": chain.acceptance,
        "expected acceptance": expected_acceptance(log_w.numpy()),
        "longest rejection": chain.longest_rejection,
        "IACT(M)": tau.tau,
        "IACT(M) error": tau.tau_error,
        "ms a configuration": 1e3 * float(seconds[0]) / n,
        "ms of CPU": 1e3 * float(seconds[1]) / n,
    }


def table(found: dict[str, float]) -> Table:
    """What was measured beside what was to be expected."""
    rows = Table("", "measured", "published")
    for name, value in found.items():
        text = f"{value:.4g}" if isinstance(value, float) else f"{value}"
        rows.add_row(name, text, EXPECTED.get(name, ""))
    return rows


def spread(runs: list[dict[str, float]]) -> Table:
    """How the figures of runs spread: median, and between which values two thirds of them lie."""
    rows = Table("", "median", "16 to 84 %", "all", "published", title=f"{len(runs)} runs")
    for name in runs[0]:
        least, low, middle, high, most = np.percentile(
            [r[name] for r in runs], [0, 16, 50, 84, 100]
        )
        values = (f"{middle:.4g}", f"{low:.4g} to {high:.4g}", f"{least:.4g} to {most:.4g}")
        rows.add_row(name, *values, EXPECTED.get(name, ""))
    return rows


def counted(settings: MixerSettings) -> Table:
    """Weights, vectors and multiply-accumulates, layer by layer."""
    work = Workload(f"dim {settings.dim}", "by its settings", mixer_products(settings))
    title = f"{work.name}: weights {work.weight_share:.2%}, MACs {work.mac_share:.2%}"
    rows = Table("layer", "size", "vectors", "MACs", "LoRA", "LoRA MACs", title=title)
    for layer in work.products:
        size = f"{layer.outputs} x {layer.inputs}"
        values = (layer.calls, layer.macs, layer.lora_weights, layer.lora_macs)
        rows.add_row(layer.name, size, *(f"{value}" for value in values))
    return rows


def main() -> None:
    """Parse, load, draw, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="zip of the published code")
    parser.add_argument("--draws", type=int, default=65_536, help="configurations")
    parser.add_argument("--batch", type=int, default=4096, help="drawn together")
    parser.add_argument("--statistics", type=int, default=4096, help="draws that set the norms")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn")
    parser.add_argument("--runs", type=int, default=1, help="of seeds that count up")
    parser.add_argument("--json", action="store_true", help="an object a run instead of tables")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error(f"--runs must be >= 1, got {options.runs}")
    torch.set_num_threads(1)
    found = []
    for seed in range(options.seed, options.seed + 2 * options.runs, 2):
        loaded = load_published(options.checkpoint, options.statistics, seed)
        found.append(measured(loaded, options.draws, options.batch, seed + 1))
        if options.json:
            print(json.dumps({"seed": seed, **found[-1]}), flush=True)
    if options.json:
        return
    console = Console()
    console.print(table(found[0]) if options.runs == 1 else spread(found))
    console.print(counted(loaded.flow.settings))
    console.print(counted(MixerSettings()))


if __name__ == "__main__":
    main()
