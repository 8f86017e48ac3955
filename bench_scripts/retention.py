"""Program some cells and read them at logarithmic times.

Example: python bench_scripts/retention.py --cells 64 --stop-s 1e4
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.retention import EXPERIMENT, RetentionPlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--cells", type=int, default=RetentionPlan.cells, help="cells to watch")
    parser.add_argument("--stop-s", type=float, default=RetentionPlan.stop_s, help="last time, s")
    parser.add_argument("--policy", default=RetentionPlan.policy, help="write-verify policy")
    options = parser.parse_args()
    plan = RetentionPlan(cells=options.cells, stop_s=options.stop_s, policy=options.policy)
    run(EXPERIMENT, plan, options)


if __name__ == "__main__":
    main()
