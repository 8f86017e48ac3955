"""Program levels on all cells and see how wide every peak is.

Example: python bench_scripts/distribution.py --rounds 2 --policy multi-pass
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.distribution import EXPERIMENT, DistributionPlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--rounds", type=int, default=DistributionPlan.rounds, help="programmings")
    parser.add_argument("--policy", default=DistributionPlan.policy, help="write-verify policy")
    options = parser.parse_args()
    run(EXPERIMENT, DistributionPlan(rounds=options.rounds, policy=options.policy), options)


if __name__ == "__main__":
    main()
