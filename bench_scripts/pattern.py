"""Program a picture or a text into the array.

Example: python bench_scripts/pattern.py --text RRAM
"""

from __future__ import annotations

from experiment_script import options_for, run

from rram_host.experiments.pattern import EXPERIMENT, PatternPlan


def main() -> None:
    """Parse, plan, run."""
    parser = options_for(__doc__)
    parser.add_argument("--image", default=PatternPlan.image, help="image file")
    parser.add_argument("--text", default=PatternPlan.text, help="letters, without an image")
    parser.add_argument("--levels", type=int, default=PatternPlan.levels, help="greys")
    options = parser.parse_args()
    plan = PatternPlan(image=options.image, text=options.text, levels=options.levels)
    run(EXPERIMENT, plan, options)


if __name__ == "__main__":
    main()
