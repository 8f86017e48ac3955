"""SET cells by one pulse at each gate voltage and fit a line.

Example: python bench_scripts/set_curve.py --repetitions 20 --per-row 1
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.set_curve import EXPERIMENT, SetCurvePlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    repetitions, per_row = SetCurvePlan.repetitions, SetCurvePlan.per_row
    parser.add_argument("--repetitions", type=int, default=repetitions, help="SETs a voltage")
    parser.add_argument("--per-row", type=int, default=per_row, help="cells of every row")
    options = parser.parse_args()
    plan = SetCurvePlan(repetitions=options.repetitions, per_row=options.per_row)
    run(EXPERIMENT, plan, options)


if __name__ == "__main__":
    main()
