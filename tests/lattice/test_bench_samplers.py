"""The benchmark runs and says what it should; how long things take is no test."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench_scripts" / "bench_samplers.py"


def test_one_part_with_and_without_numba():
    command = [sys.executable, str(SCRIPT), "--seconds", "0.01", "--part", "phi4"]
    done = subprocess.run(
        [*command, "--size", "4", "--json"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    names = ["hmc", "fourier-hmc", "metropolis", "wolff", "hmc, no numba"]
    assert [row["sampler"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row["m_us"] > 0 and row["abs_m_us"] > 0 and 0 < row["acceptance"] <= 1
        assert row["ratio"] is None  # targets are for L = 12
    assert found["machine"]["chains"] == 64
