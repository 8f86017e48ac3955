"""The benchmark runs and says what it should; how long things take is no test."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench_scripts" / "bench_emulator.py"


def test_every_part_is_timed_and_has_its_target():
    command = [sys.executable, str(SCRIPT), "--repeats", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    rows = found["rows"]
    assert {"product", "path", "matrix", "nonlinear", "ageing", "writing"} <= {
        row["part"] for row in rows
    }
    assert all(row["value"] > 0 for row in rows)
    assert all(row["met"] in ("yes", "no") for row in rows if row["part"] != "others")
    assert found["machine"]["repeats"] == 1


def test_one_part_as_a_table():
    command = [sys.executable, str(SCRIPT), "--repeats", "1", "--part", "ageing"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["what", "target", "measured", "met"]
    assert lines[0].startswith("retention of 1024 cells") and " 25 us " in lines[0]
