"""The command line: `rram COMMAND --board URL`.

Exit codes: 0 the job succeeded, 1 it did not, 2 what was asked cannot be done, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys

import click
from threadpoolctl import threadpool_limits

from rram_host.cli.array_commands import info, program, read, vmm
from rram_host.cli.bench_commands import cost
from rram_host.cli.calibrate_command import calibrate
from rram_host.cli.check_command import check
from rram_host.cli.common import report_error, stop
from rram_host.cli.estimate_command import estimate
from rram_host.cli.experiment_command import experiment_command
from rram_host.cli.figures_command import figures
from rram_host.cli.finetune_command import finetune
from rram_host.cli.fit_command import fit
from rram_host.cli.flow_commands import demo
from rram_host.cli.lattice_commands import check_physics, hmc
from rram_host.cli.passport_command import passport
from rram_host.cli.replay_command import replay
from rram_host.cli.runs_command import runs
from rram_host.cli.safe_command import safe
from rram_host.cli.sample_command import sample
from rram_host.cli.selftest_command import selftest
from rram_host.cli.train_command import train
from rram_host.errors import ContractError, InputError, RramError, UnsafeDensityError
from rram_host.experiments.catalogue import EXPERIMENTS
from rram_host.records.status import unwrapped
from rram_host.session import Board


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without hardware: --board 'sim://?preset=taox_180nm&seed=7&state=chip.npz' is an "
    "emulated board that keeps its cells in chip.npz between commands.",
)
@click.version_option(package_name="rram-bench")
def cli() -> None:
    """Form, program, read and multiply with an RRAM array; sample lattice fields on it.

    \b
    rram demo                                  the whole job, on an emulated board
    rram info --board serial:///dev/ttyUSB0    who is there
    rram COMMAND --help                        options and examples of a command
    """


for _command in (
    demo,
    info,
    program,
    read,
    vmm,
    sample,
    train,
    finetune,
    hmc,
    check_physics,
    calibrate,
    cost,
    estimate,
    check,
    safe,
    selftest,
    passport,
    runs,
    replay,
    figures,
    fit,
    *(experiment_command(experiment) for experiment in EXPERIMENTS.values()),
):
    cli.add_command(_command)


def _run(arguments: list[str] | None) -> object:
    try:
        return cli.main(args=arguments, standalone_mode=False)
    except SystemError as error:
        raise unwrapped(error) or error from None


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `rram`: one clear line for every error, no traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    # Products of 32 x 32 matrices: BLAS threads would only wait for each other.
    threadpool_limits(1)
    try:
        code = _run(arguments)
    except (click.exceptions.Abort, KeyboardInterrupt):
        made_safe = "; rails of an open board were made safe" if Board.any_opened else ""
        report_error(f"interrupted{made_safe}")
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        report_error(error.format_message())
        sys.exit(2)
    except (InputError, ContractError, UnsafeDensityError) as error:
        report_error(str(error))
        sys.exit(2)
    except RramError as error:
        report_error(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "rram_host", "firmware_bridge", "sim"):
            raise
        # the ZC706's own ARM runs the base commands without what has no wheel for it
        report_error(f"this command needs the package {package}, which is not installed")
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
