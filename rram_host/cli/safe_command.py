"""`rram safe`: the rails safe now, whatever else the board is doing."""

from __future__ import annotations

import click

from firmware_bridge import board_spec
from rram_host.board.rescue import TIMEOUT_S, make_safe
from rram_host.cli.common import emit, json_option, record_option, say, spec_option


@click.command(short_help="Make the rails safe now, whatever else hangs.")
@click.option(
    "--board",
    required=True,  # what is safe by default would be an emulated board
    metavar="URL",
    help="Which board, e.g. serial:///dev/ttyUSB0?baud=921600, socket://HOST:PORT.",
)
@record_option
@spec_option
@click.option(
    "--timeout",
    "timeout_s",
    default=TIMEOUT_S,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    metavar="SECONDS",
    help="How long the link, and then the board, may take to answer.",
)
@json_option
def safe(board: str, spec: str, timeout_s: float, as_json: bool) -> None:
    """Stop what runs, close the gates, put bit lines to zero and source lines to ground.

    Works while a program runs, while another client writes, with a fault latched, and with a board
    of another version. Nothing else is written. The exit code is 0 where the board says that its
    rails are safe, 1 where it does not or cannot be reached, 2 where it is no such board.

    \b
    rram safe --board serial:///dev/ttyUSB0
    rram safe --board socket://127.0.0.1:5025 --timeout 1
    """
    rails = make_safe(board, board_spec.load(spec), timeout_s)
    emit(
        as_json,
        {
            "safe": rails.safe,
            "busy": rails.busy,
            "live": rails.live,
            "fault": rails.fault,
            "loaded_safe_program": rails.loaded,
            "same_contract": rails.same_contract,
        },
    )
    say(as_json, str(rails))
    if not rails.safe:
        raise SystemExit(1)
