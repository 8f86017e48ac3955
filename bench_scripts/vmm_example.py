"""Send random vectors through random weights and compare with exact products.

Example: python bench_scripts/vmm_example.py --scheme differential
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.vmm_example import EXPERIMENT, VmmExamplePlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--vectors", type=int, default=VmmExamplePlan.vectors, help="a matrix")
    parser.add_argument("--matrices", type=int, default=VmmExamplePlan.matrices, help="matrices")
    parser.add_argument("--scheme", default=VmmExamplePlan.scheme, help="single or differential")
    options = parser.parse_args()
    plan = VmmExamplePlan(options.matrices, options.vectors, options.scheme)
    run(EXPERIMENT, plan, options)


if __name__ == "__main__":
    main()
