"""Feed everything that reads bytes from outside with inputs that nobody would send.

With `--how atheris` (extra `fuzz`) inputs are guided by the branches that they reach; with
`--how mutate` they are valid traffic with changed bytes, from a seed, and need nothing installed.
An input may be refused, and nothing else: any other exception is a crash, and so are more than
`--hang` seconds; beside them stands the most memory that the process has held. A crash leaves its
input in a file.

    python bench_scripts/fuzz_bridge.py --inputs 1000000 --seed 1
    python bench_scripts/fuzz_bridge.py --inputs 1000000 --how atheris
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# What is slow gets fewer inputs: some ms each, where the others take some tens of microseconds.
SHARES = {"board": 0.1, "board_text": 0.01, "recording": 0.1, "hislip_session": 0.5}


def options(names: list[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--how", choices=["mutate", "atheris"], default="mutate")
    parser.add_argument("--target", action="append", choices=names, help="default: all")
    parser.add_argument("--hang", type=int, default=10, help="seconds that an input may take")
    parser.add_argument(
        "--crashes", type=Path, default=Path("runs/crashes"), help="folder for bad inputs"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def mutate(name: str, inputs: int, asked: argparse.Namespace) -> int:
    """Run one target on mutated traffic; how many inputs crashed."""
    from tests.fuzz_targets import TARGETS, mutated, run

    def hang(*_: object) -> None:
        raise TimeoutError(f"no end after {asked.hang} s")

    signal.signal(signal.SIGALRM, hang)
    rng, seeds, crashes = random.Random(f"{asked.seed} {name}"), TARGETS[name][1], 0
    for _ in range(inputs):
        data = mutated(rng, seeds)
        signal.alarm(asked.hang)
        try:
            run(name, data)
        except Exception as error:
            crashes += 1
            path = asked.crashes / f"crash-{name}-{crashes}"
            path.write_bytes(data)
            print(f"{name}: {type(error).__name__}: {error}: {path}", file=sys.stderr)
        signal.alarm(0)
    return crashes


def guided(name: str, inputs: int, asked: argparse.Namespace) -> None:
    """Run one target under atheris, which ends the process."""
    import atheris

    # numba cannot compile what atheris has been in.
    with atheris.instrument_imports(include=["firmware_bridge"], exclude=["firmware_bridge.cobs"]):
        from tests.fuzz_targets import TARGETS, run

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(TARGETS[name][1]):
            (Path(folder) / str(number)).write_bytes(data)
        settings = [f"-runs={inputs}", f"-timeout={asked.hang}", f"-seed={asked.seed}"]
        settings += ["-max_len=8192", "-rss_limit_mb=2048", "-verbosity=0", folder]
        settings.append(f"-artifact_prefix={asked.crashes / f'crash-{name}-'}")
        atheris.Setup([sys.argv[0], *settings], lambda data: run(name, data))
        atheris.Fuzz()


def in_a_process(name: str, inputs: int, asked: argparse.Namespace) -> tuple[int, float]:
    """Run one target under atheris; crashes, and the peak of all such processes so far."""
    command = [
        sys.executable,
        __file__,
        "--child",
        name,
        "--inputs",
        str(inputs),
        "--how",
        "atheris",
    ]
    command += ["--seed", str(asked.seed), "--hang", str(asked.hang)]
    command += ["--crashes", str(asked.crashes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    return int(done.returncode != 0), (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    )


def main() -> int:
    """Fuzz, and print a line for each target."""
    logging.disable(logging.CRITICAL)  # wrong proofs of a key are what is asked for here
    if "--child" in sys.argv:
        asked = options([])
        guided(asked.child, asked.inputs, asked)
        return 0
    from tests.fuzz_targets import TARGETS

    asked = options(list(TARGETS))
    asked.crashes.mkdir(parents=True, exist_ok=True)
    names = asked.target or list(TARGETS)
    whole = sum(SHARES.get(name, 1.0) for name in names)
    total = crashed = 0
    begun_s = time.monotonic()
    print(f"{'target':18}{'inputs':>9}{'s':>8}{'peak MiB':>10}{'crashes':>9}   {asked.how}")
    for name in names:
        inputs = int(-(-asked.inputs * SHARES.get(name, 1.0) // whole))
        from_s = time.monotonic()
        if asked.how == "mutate":
            crashes, most = mutate(name, inputs, asked), peak_mib()
        else:
            crashes, most = in_a_process(name, inputs, asked)
        took_s = time.monotonic() - from_s
        print(f"{name:18}{inputs:9}{took_s:8.1f}{most:10.0f}{crashes:9}", flush=True)
        total, crashed = total + inputs, crashed + crashes
    print(f"{'all':18}{total:9}{time.monotonic() - begun_s:8.1f}{'':10}{crashed:9}")
    return int(crashed > 0)


if __name__ == "__main__":
    sys.exit(main())
