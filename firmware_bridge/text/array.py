"""Commands of the text dialect that reach the board: registers, programs, cells, products."""

from __future__ import annotations

import math

import numpy as np

from firmware_bridge import opening, registers
from firmware_bridge.errors import InputError
from firmware_bridge.registers import Memory, Register
from firmware_bridge.text import scpi
from firmware_bridge.text.board import MAX_TABLE_CODES, check_program
from firmware_bridge.text.commands import COMMANDS, Client, command, data_of, number, whole
from firmware_bridge.text.scpi import Argument, Sort
from firmware_bridge.text.status import ScpiError

__all__ = ["COMMANDS"]  # whole only with those of this module

INFINITY = "9.9E+37"  # SCPI-99 7.2.1.4
_PLACES: dict[str, Register | Memory] = {
    **registers.BY_NAME,
    **{memory.name: memory for memory in registers.MEMORIES},
}


def _address(argument: Argument) -> int:
    if argument.sort is Sort.NAME:
        place = _PLACES.get(argument.text.upper())
        if place is None:
            raise ScpiError(-141, f"{argument.text}: no register or memory has this name")
        return place.offset
    address = whole(argument, 0, registers.WINDOW_BYTES - 4, "address")
    if address % 4:
        raise ScpiError(-222, f"address {address:#x} is not a multiple of 4")
    return address


@command("REGister?", "<name|address>[,<count>]", "a word; with a count, a block of uint32", 1, 2)
def _read_register(client: Client, arguments: list[Argument]) -> bytes:
    address = _address(arguments[0])
    if len(arguments) == 1:
        return number(int(client.board.read(address, 1)[0]))
    most = (registers.WINDOW_BYTES - address) // 4
    count = whole(arguments[1], 1, min(most, registers.RESULTS.words), "count")
    return client.block(client.board.read(address, count).astype("<u4").tobytes())


@command("REGister", "<name|address>,<word|block>", "write a word, or a block of uint32", 2, 2)
def _write_register(client: Client, arguments: list[Argument]) -> None:
    address = _address(arguments[0])
    if arguments[1].sort is not Sort.BLOCK:
        words = np.array([whole(arguments[1], 0, 0xFFFF_FFFF, "word")], dtype=np.uint32)
    else:
        most = (registers.WINDOW_BYTES - address) // 4
        words = np.frombuffer(data_of(client, arguments[1], 4, most, "words"), "<u4")
    client.board.write(address, words.astype(np.uint32))


# ---- programs -------------------------------------------------------------------------------


@command("PROGram:LOAD", "<block>", "keep the words of a program (uint32) for PROGram:RUN", 1, 1)
def _load(client: Client, arguments: list[Argument]) -> None:
    data = data_of(client, arguments[0], 4, opening.SAFE_ENTRY, "program words")
    words = np.frombuffer(data, "<u4").astype(np.uint32)
    try:
        check_program(words)
    except InputError as error:
        raise ScpiError(-220, str(error)) from None
    client.program = words


@command("PROGram:TABLe", "<block>", "keep its input codes (uint16)", 1, 1)
def _table(client: Client, arguments: list[Argument]) -> None:
    data = data_of(client, arguments[0], 2, MAX_TABLE_CODES, "table codes")
    client.table = np.frombuffer(data, "<u2").astype(np.uint16)


@command("PROGram:RUN", "", "start it; *OPC? or PROGram:STATe? tells when it is done")
def _run(client: Client, _: list[Argument]) -> None:
    if not client.program.size:
        raise ScpiError(-221, "there is no program; PROGram:LOAD comes first")
    client.board.prepare()
    client.fault = ""
    client.board.start(client.program, client.table)
    client.started = True
    client.settle(wait=False)


@command("PROGram:STATe?", "", "IDLE, RUNNING, DONE or FAULT; results; the fault, as a string")
def _state(client: Client, _: list[Argument]) -> bytes:
    name = client.settle(wait=False)
    results = client.board.register("RESULT_COUNT")
    fault = client.fault
    if name == "FAULT" and not fault:  # of a program that somebody else has started
        fault = client.board.describe(client.board.state())
    text = scpi.plain(fault.encode("ascii", "replace"), 250).replace('"', "'")
    return f'{name},{results},"{text}"'.encode()


@command("PROGram:RESults?", "", "results of the last program, a block of uint16")
def _results(client: Client, _: list[Argument]) -> bytes:
    if client.settle(wait=False) == "RUNNING":
        raise ScpiError(-221, "a program is running; *WAI waits for it")
    words = client.board.results(client.board.state())
    return client.block(words.astype("<u2").tobytes())


# ---- the array ------------------------------------------------------------------------------


@command("READ?", "<row>,<col>", "conductance of a cell, siemens", 2, 2)
def _read_cell(client: Client, arguments: list[Argument]) -> bytes:
    spec = client.board.spec
    row = whole(arguments[0], 0, spec.rows - 1, "row")
    col = whole(arguments[1], 0, spec.cols - 1, "column")
    g = client.board.cell(row, col)
    return (INFINITY if math.isinf(g) else f"{g:.6E}").encode()


@command("READ:ARRay?", "", "conductances of all cells, siemens: a block of float32, row by row")
def _read_array(client: Client, _: list[Argument]) -> bytes:
    return client.block(client.board.array().astype("<f4").tobytes())


@command(
    "VMM?",
    "<block>[,<range>]",
    "currents (float32, A, n x rows) for voltages (float32, V, n x cols)",
    1,
    2,
)
def _multiply(client: Client, arguments: list[Argument]) -> bytes:
    spec, board = client.board.spec, client.board
    most = spec.cols * board.most_vectors()
    data = data_of(client, arguments[0], 4, most, "voltages")
    if not data or len(data) % (4 * spec.cols):
        raise ScpiError(-161, f"{len(data) // 4} voltages are not vectors of {spec.cols}")
    tia_range = whole(arguments[1], 0, 3, "range") if len(arguments) > 1 else None
    volts = np.frombuffer(data, "<f4").astype(np.float64).reshape(-1, spec.cols)
    return client.block(board.products(volts, tia_range).astype("<f4").tobytes())


@command("SAFE", "", "stop, close gates, then bring all lines to zero; whoever else writes")
def _safe(client: Client, _: list[Argument]) -> None:
    client.board.safe()
