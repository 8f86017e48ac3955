"""The benchmark runs and says what it should; how long things take is no test."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench_scripts" / "bench_sampling.py"


def test_every_part_is_timed():
    command = [sys.executable, str(SCRIPT), "--repeats", "1", "-n", "2000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert list(found["chain_ns"]) == ["0.1", "1", "3"]
    (row,) = found["models"]
    assert row["bytes_a_record"] == 16 * 8
    assert all(row[name] > 0 for name in ("draws_per_s", "measured_per_s", "recording_ratio"))
