"""Sweep one cell by SET and RESET staircases, cycle after cycle.

Example: python bench_scripts/iv.py --row 3 --col 5 --cycles 50
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.iv import EXPERIMENT, IvPlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--row", type=int, default=0, help="row of the cell")
    parser.add_argument("--col", type=int, default=0, help="column of the cell")
    parser.add_argument("--cycles", type=int, default=IvPlan.cycles, help="cycles")
    parser.add_argument("--compliance-v", type=float, default=IvPlan.compliance_v, help="gate, V")
    options = parser.parse_args()
    cell, volts = (options.row, options.col), options.compliance_v
    run(EXPERIMENT, IvPlan(cell=cell, cycles=options.cycles, compliance_v=volts), options)


if __name__ == "__main__":
    main()
