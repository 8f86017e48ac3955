"""A second host while another one writes: it may look, and it disturbs nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from firmware_bridge import registers
from firmware_bridge.server import TcpServer
from rram_host import open_board
from rram_host.board.waiting import wait_program
from rram_host.cli import cli
from rram_host.errors import LinkError, ReadOnlyLinkError
from rram_host.session import glance
from rram_host.transports import open_transport
from sim import EmulatedBoard

STATUS = registers.offset("STATUS")


@pytest.fixture
def server():
    with TcpServer(EmulatedBoard("ideal", seed=7)) as server:
        yield server


def test_info_of_a_board_that_another_host_writes_to(server: TcpServer) -> None:
    with open_board(server.url) as first:
        done = CliRunner().invoke(cli, ["info", "--json", "--board", server.url])
        found = json.loads(done.stdout)
        assert done.exit_code == 1
        assert (
            found["rows"] == 32 and not found["self_test_passed"] and not found["program_running"]
        )
        assert "writes; others may read" in found["self_test_faults"][0]
        first.array.form()
        assert glance(server.url)["pulses_since_power_up"] == first.pulses_since_power_up > 0
    done = CliRunner().invoke(cli, ["info", "--json", "--board", server.url])
    assert done.exit_code == 0 and json.loads(done.stdout)["self_test_passed"]


def test_a_running_program_of_another_host_is_not_stopped() -> None:
    # its wall clock stands still: a program that was begun goes on for ever
    board = EmulatedBoard("ideal", seed=7, pace=1.0, wall=lambda: 0.0)
    with TcpServer(board) as server:
        link = open_transport(server.url)
        program = wait_program(board.spec, 10**9).words()
        link.write(registers.PROGRAM.offset, program)
        link.write(registers.offset("CTRL"), np.array([registers.CTRL_START], np.uint32))
        with pytest.raises(ReadOnlyLinkError, match="writes"):
            open_board(server.url)
        assert glance(server.url)["program_running"]
        assert int(link.read(STATUS, 1)[0]) & registers.STATUS_BUSY
        link.close()
    assert issubclass(ReadOnlyLinkError, LinkError)
