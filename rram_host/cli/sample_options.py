"""Options of `rram sample`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rram_host.cli.common import DEFAULT_BOARD, record_option, seed_option, spec_option
from rram_host.cli.file_names import RUN_FILE

Function = TypeVar("Function", bound=Callable[..., Any])

_BASELINES = ("hmc", "fourier-hmc", "metropolis", "wolff", "none")


def _options(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


_MODEL = _options(
    click.option(
        "--model", default="phi4_L4", show_default=True, help="A shipped flow, or a file."
    ),
    click.option(
        "--board",
        "boards",
        multiple=True,
        metavar="URL",
        help="Board to run the flow's products on; again for each further one, where the flow "
        f"takes several arrays. Default {DEFAULT_BOARD}; one emulated board with a seed stands for "
        "as many as it takes, of seeds counted up.",
    ),
    click.option("--software", is_flag=True, help="Without a board: the weights as trained."),
)
_AMOUNT = _options(
    click.option("-n", "n", default=32_768, show_default=True, help="Configurations to draw."),
    click.option("--batch", default=4096, show_default=True, help="Configurations drawn together."),
    click.option(
        "--processes", default=1, show_default=True, help="With --software: processes that draw."
    ),
    seed_option,
)
_TARGET = _options(
    click.option("--L", "lattice", metavar="L or L0xL1", help="Lattice that the model must be of."),
    click.option("--lam", type=float, help="Sample another coupling lambda than the model's."),
    click.option("--m2", type=float, help="Another bare mass squared."),
    click.option("--g", type=float, help="Another coupling g of a graphene wire."),
    click.option("--m-over-g", type=float, help="Another mass of a graphene wire, in units of g."),
)
_ARRAY = _options(
    click.option(
        "--lora-steps",
        default=300,
        show_default=True,
        help="Steps of LoRA compensation; 0 for none.",
    ),
    click.option(
        "--scheme",
        default="single",
        show_default=True,
        help="single; differential takes twice the cells.",
    ),
    click.option(
        "--reprogram",
        is_flag=True,
        help="One board for all arrays that the flow takes, programmed again for every one.",
    ),
    spec_option,
    click.option(
        "--passport",
        "passports",
        type=click.Path(path_type=Path, dir_okay=False),
        multiple=True,
        envvar="RRAM_PASSPORT",
        show_envvar=True,
        metavar="FILE",
        help="Passport of the chip, begun where there is none; one for each board.",
    ),
    record_option,
)
_RECORD = _options(
    click.option(
        "--out",
        type=RUN_FILE,
        metavar="FILE.h5",
        help="Run file to make; its folder must exist. Default runs/TIME-sample.h5.",
    ),
    click.option(
        "--resume",
        is_flag=False,
        flag_value="",
        metavar="[FILE.h5]",
        help="Go on with a run that was broken off: --resume FILE.h5, or --out FILE.h5 --resume. "
        "Settings are those of the run; what is given besides must agree.",
    ),
    click.option(
        "--force",
        is_flag=True,
        help="Take a coupling outside the model's range; resume a run whose process was on another "
        "machine and cannot be asked.",
    ),
    click.option(
        "--baseline",
        type=click.Choice(_BASELINES),
        help="Sampler to run beside it, tuned. Default hmc, for a graphene wire fourier-hmc.",
    ),
    click.option(
        "--picture/--no-picture",
        default=True,
        show_default=True,
        help="Draw a PNG beside the run file.",
    ),
)


def sample_options(function: Function) -> Function:
    """All of them but --json."""
    return _options(_MODEL, _AMOUNT, _TARGET, _ARRAY, _RECORD)(function)
