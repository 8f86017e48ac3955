"""Cycle a block of cells and count those that stop switching.

Example: python bench_scripts/endurance.py --cycles 1000000 --row 8
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.endurance import EXPERIMENT, EndurancePlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    for name in ("cycles", "row", "col", "block_rows", "block_cols"):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=getattr(EndurancePlan, name), help=name)
    options = parser.parse_args()
    names = ("cycles", "row", "col", "block_rows", "block_cols")
    run(EXPERIMENT, EndurancePlan(**{name: getattr(options, name) for name in names}), options)


if __name__ == "__main__":
    main()
