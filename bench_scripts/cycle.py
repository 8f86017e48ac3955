"""Bring four cells from RESET to a target by staircases of pulses.

Example: python bench_scripts/cycle.py --target 30 --runs 4
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.cycle import EXPERIMENT, CyclePlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--target", type=float, default=50.0, help="target, microsiemens")
    parser.add_argument("--cycles", type=int, default=CyclePlan.cycles, help="cycles of a run")
    parser.add_argument("--runs", type=int, default=CyclePlan.runs, help="runs, each from RESET")
    options = parser.parse_args()
    target = options.target * 1e-6
    plan = CyclePlan(target_siemens=target, cycles=options.cycles, runs=options.runs)
    run(EXPERIMENT, plan, options)


if __name__ == "__main__":
    main()
