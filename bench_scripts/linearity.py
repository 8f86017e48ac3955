"""Currents of cells of 30 to 95 microsiemens up to 0.1 V, and how straight they are.

Example: python bench_scripts/linearity.py --levels 17 --sweeps 100
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.linearity import EXPERIMENT, LinearityPlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--levels", type=int, default=LinearityPlan.levels, help="cells")
    parser.add_argument("--sweeps", type=int, default=LinearityPlan.sweeps, help="sweeps")
    options = parser.parse_args()
    run(EXPERIMENT, LinearityPlan(levels=options.levels, sweeps=options.sweeps), options)


if __name__ == "__main__":
    main()
