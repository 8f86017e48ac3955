"""The benchmark of links runs and says what it should; how fast they are is no test."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench_scripts" / "bench_links.py"


def test_every_link_is_timed_and_the_limits_are_there():
    command = [sys.executable, str(SCRIPT), "--repeats", "1", "--jobs", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    whats = {row["what"] for row in rows}
    assert whats == {"round trips", "words", "products"}
    assert {row["link"] for row in rows} == {
        "in process",
        "tcp",
        "pty",
        "visa socket",
        "visa hislip",
    }
    assert all(row["value"] > 0 for row in rows)
    limited = {row["link"] for row in rows if row["limit"] is not None}
    assert limited == {"tcp", "pty"}
    assert all(row["met"] in ("yes", "no") for row in rows if row["limit"] is not None)
