"""Form an array row by row and say which voltage formed which cell.

Example: python bench_scripts/forming.py --step-v 0.02
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.forming import EXPERIMENT, FormingPlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    start_v, stop_v, step_v = FormingPlan.start_v, FormingPlan.stop_v, FormingPlan.step_v
    parser.add_argument("--start-v", type=float, default=start_v, help="first step, V")
    parser.add_argument("--stop-v", type=float, default=stop_v, help="last step, V")
    parser.add_argument("--step-v", type=float, default=step_v, help="distance of steps, V")
    options = parser.parse_args()
    plan = FormingPlan(start_v=options.start_v, stop_v=options.stop_v, step_v=options.step_v)
    run(EXPERIMENT, plan, options)


if __name__ == "__main__":
    main()
