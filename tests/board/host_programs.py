"""Programs of every kind that the host makes, for boards of both polarities."""

from __future__ import annotations

import dataclasses

import numpy as np

from firmware_bridge import board_spec
from firmware_bridge.board_spec import TE_ON_SL, BoardSpec
from firmware_bridge.lines import LineProgram
from firmware_bridge.opening import start_program
from rram_host.array import sweep
from rram_host.array.compensation import reset_bl_volts
from rram_host.array.pulses import ArrayProgram, reset_source, reset_train, set_train
from rram_host.board.waiting import wait_program

BOARDS = [board_spec.load(name) for name in ("zc706", "zc706_40us")]
# a rail that forming reaches, where it drives the source lines
SPECS = [
    spec
    for board in BOARDS
    for spec in (board, dataclasses.replace(board, polarity=TE_ON_SL, sl_rail_v=3.7))
]
KINDS = ("set", "form", "reset", "read", "sweep", "wait", "safe", "start", "cycles", "round")


def host_program(kind: str, spec: BoardSpec, few: bool = False):
    """Words and table of one program."""
    program = ArrayProgram(spec)
    cells = np.zeros((spec.rows, spec.cols), dtype=bool)
    cells[1, 2] = cells[2, 2] = cells[2, 3] = True
    if not few:
        cells[::3, ::4] = True
    if kind in ("wait", "safe", "start"):
        asm = {
            "wait": lambda: wait_program(spec, 300_000_000),
            "safe": lambda: _safe(spec),
            "start": lambda: start_program(spec),
        }[kind]()
        return asm.words(), np.zeros(0, dtype=np.uint16)
    if kind == "sweep":
        for train in sweep._trains(spec, 1, 2, np.array([0.5, 1.5, -1.0, -2.0, 1.0]), 1.2):
            sweep._add(program, spec, 1, train, sweep._read_codes(spec, 2, 1))
    if kind == "cycles":
        with program.asm.loop(1000):
            _reset(program, spec, cells)
            _set(program, spec, cells, spec.pulses.set_bl_v)
    if kind in ("set", "round"):
        _set(program, spec, cells, spec.pulses.set_bl_v)
    if kind == "form":
        p, gates = spec.pulses, np.full(cells.shape, spec.pulses.form_wl_v)
        program.pulse(set_train(spec, cells, gates, p.form_bl_stop_v, p.form_width_s))
    if kind in ("reset", "round"):
        _reset(program, spec, cells)
    if kind in ("read", "round"):
        step = np.eye(spec.cols)[: 2 if few else None] * spec.read_voltage_v
        program.read(np.concatenate([step, -step]), np.arange(spec.rows), 2)
    return program.asm.words(), program.table


def _safe(spec: BoardSpec) -> LineProgram:
    program = LineProgram(spec)
    program.make_safe()
    return program


def _set(program: ArrayProgram, spec: BoardSpec, cells, volts: float) -> None:
    gates = np.full(cells.shape, 1.1)
    program.pulse(set_train(spec, cells, gates, volts, spec.pulses.set_width_s))


def _reset(program: ArrayProgram, spec: BoardSpec, cells) -> None:
    rows = np.flatnonzero(cells.any(1))
    volts, g = np.full((rows.size, spec.cols), 1.6), np.full((rows.size, spec.cols), 30e-6)
    source_v = reset_source(spec)[1]
    bl_v = reset_bl_volts(volts, cells[rows], g, source_v, np.full(rows.size, 120.0))
    p = spec.pulses
    program.pulse(reset_train(spec, rows, cells[rows], bl_v, p.reset_wl_v, p.reset_width_s))


# ---- in assembler text, for the board zc706 ---------------------------------------------------


def reading(
    bl_code: int = 47186, gate_code: int = 43254, inputs: int = 1, after: str = "CONV 0"
) -> str:
    """Row 3 alone, all BLs at one code of 1.25 V, switches closed; then what is asked."""
    low, high = inputs & 1, inputs >> 1
    # chain position 6 and 7 are row 3; the bit sent at time 63 - position
    word = low << (31 - (63 - 6) % 32) | high << (31 - (63 - 7) % 32)
    others = 0xFFFFFFFF
    floating = others & ~(1 << (31 - (63 - 6) % 32)) & ~(1 << (31 - (63 - 7) % 32))
    lines = "\n".join(f"DAC addr={8 + k} chips=0x0F data={bl_code}" for k in range(8))
    zeros = "\n".join(f"DAC addr={8 + k} chips=0x0F data=0" for k in range(8))
    return f"""
        LINES enable=0 range=0 oe=1
        SHIFT bits=64 {others} {floating | word}
        WAIT 100
        DAC addr=4 chips=0x0F data=0x0100
        WAIT 100
        {lines}
        DAC addr=11 chips=0x10 data={gate_code}
        DAC addr=5 chips=0xFF data=0x10
        WAIT 500
        LINES enable=1 range=0 oe=1
        WAIT 700
        {after}
        LINES enable=0 range=0 oe=1
        DAC addr=11 chips=0x10 data=0
        DAC addr=5 chips=0xFF data=0x10
        {zeros}
        DAC addr=5 chips=0xFF data=0x10
        END
    """


def pulsing(after: str = "", width: int = 100, gate: int = 20000, bl: str = "") -> str:
    """Row 3 at ground, BL0 at 1.5 V, all others at 0 V; then a pulse."""
    text = reading(0, gate, inputs=0, after=after).replace("data=0x0100", "data=0x00FF")
    text = text.replace("LINES enable=1 range=0 oe=1", f"PULSE {width}").replace("WAIT 700\n", "")
    selected = "DAC addr=8 chips=0x01 data=19661"
    return text.replace(
        "DAC addr=11 chips=0x10 data=20000",
        f"{selected}\n{bl}\nDAC addr=11 chips=0x10 data=20000",
        1,
    )
