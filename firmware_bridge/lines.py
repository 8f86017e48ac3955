"""From bit lines, word lines and source lines to instructions: the only place that knows both.

A `LineProgram` is an assembler that speaks of BL, WL and SL. Codes are grouped so that one
instruction writes the same output of several chips at once: 32 lines on 4 chips are 8 writes.
Order rules are built in: source-line switches are open while lines move, gates are closed
before bit lines fall, and a phase ends with every DAC at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508, sn74hc595
from firmware_bridge.errors import InputError
from firmware_bridge.limits import codes_for
from firmware_bridge.microcode import CLOCK_HZ, Assembler, Op
from firmware_bridge.readout import selects_for

OE = 1 << 3


class LineGroup:
    """The DAC channels of one kind of line, in the order in which the sequencer takes codes.

    Attributes:
        order: line index of every table element, (lines,).
    """

    def __init__(self, channels: Sequence[int]) -> None:
        by_slot: dict[int, list[tuple[int, int]]] = {}
        for line, channel in enumerate(channels):
            chip, slot = divmod(channel, dac80508.N_CHANNELS)
            by_slot.setdefault(slot, []).append((chip, line))
        self._slots = {slot: sorted(pairs) for slot, pairs in sorted(by_slot.items())}
        self.order = np.array([line for pairs in self._slots.values() for _, line in pairs])
        self.chips = sorted({channel // dac80508.N_CHANNELS for channel in channels})
        self.mask = sum(1 << chip for chip in self.chips)

    @staticmethod
    @lru_cache(maxsize=64)
    def of(channels: tuple[int, ...]) -> LineGroup:
        """The group of some channels; the same object each time, for nothing changes it."""
        return LineGroup(channels)

    def from_table(self, asm: Assembler, offset: int) -> None:
        """Write every line from table elements `offset` on, in `order`."""
        for slot, pairs in self._slots.items():
            mask = sum(1 << chip for chip, _ in pairs)
            asm.add(Op.DACT, addr=dac80508.DAC0 + slot, mask=mask, value=offset)
            offset += len(pairs)

    def immediate(self, asm: Assembler, codes: npt.NDArray[np.uint16]) -> None:
        """Write every line from codes in the program, one instruction a distinct code and slot."""
        for slot, pairs in self._slots.items():
            for code in sorted({int(codes[line]) for _, line in pairs}):
                mask = sum(1 << chip for chip, line in pairs if codes[line] == code)
                asm.add(Op.DAC, addr=dac80508.DAC0 + slot, mask=mask, value=code)


class LineProgram(Assembler):
    """An assembler for one board.

    Args:
        spec: which line hangs where.

    Raises:
        InputError: bit lines and word lines share a DAC chip, so that their ranges could not be
            switched apart.
    """

    def __init__(self, spec: BoardSpec) -> None:
        super().__init__()
        self._spec = spec
        self.bl, self.wl = LineGroup.of(spec.bl_channel), LineGroup.of(spec.wl_channel)
        if self.bl.mask & self.wl.mask:
            raise InputError(f"board {spec.name}: BLs and WLs share a DAC chip")
        self._all = (1 << spec.dac_chips) - 1

    def initialise(self) -> None:
        """After power-up or unknown state: reset every DAC, then all outputs behind LDAC."""
        self.add(Op.LINES, value=0)
        self.dac_register(dac80508.TRIGGER, dac80508.TRIGGER_SOFT_RESET, self._all)
        self.wait(dac80508.SOFT_RESET_S)
        self.dac_register(dac80508.SYNC, dac80508.SYNC_ALL, self._all)
        self.dac_register(dac80508.GAIN, dac80508.GAIN_0_TO_5_V, self.wl.mask)
        self.wait(dac80508.UPDATE_INTERVAL_S)
        self.switch_sl(self._spec.sl_ground)

    def dac_register(self, addr: int, data: int, mask: int) -> None:
        """Write a DAC80508 register of several chips."""
        self.add(Op.DAC, addr=addr, mask=mask, value=data)

    def read_dac_register(self, addr: int) -> None:
        """Read a DAC80508 register of every chip: two results a chip."""
        self.add(Op.DREAD, addr=addr, mask=self._all)

    def wait(self, duration_s: float) -> None:
        """Wait at least `duration_s`."""
        self.add(Op.WAIT, value=int(np.ceil(duration_s * CLOCK_HZ)))

    def latch(self) -> None:
        """Move every output to its buffered code at once."""
        self.dac_register(dac80508.TRIGGER, dac80508.TRIGGER_LDAC, self._all)

    def settle(self) -> None:
        """Wait until DAC outputs have settled."""
        self.wait(self._spec.dac_settling_s)

    def switch_sl(self, code: int, rows: npt.NDArray[np.int64] | None = None) -> None:
        """Open all SL switches, then choose an input for some rows; they stay open (inhibited).

        Waits until the switches have taken their new address, so that they may be closed next.

        Args:
            code: input, one of the spec's sl_... codes.
            rows: which rows; default all. The others float.
        """
        spec = self._spec
        self.add(Op.LINES, value=OE)
        codes = np.full(spec.rows, code if rows is None else spec.sl_float)
        codes[rows if rows is not None else slice(None)] = code
        outputs = np.zeros(2 * spec.rows, dtype=np.uint8)
        outputs[list(spec.sl_bit0)] = codes & 1
        outputs[list(spec.sl_bit1)] = codes >> 1 & 1
        self.add(Op.SHIFT, value=outputs.size, data=sn74hc595.words_from_outputs(outputs))
        self.wait(spec.mux_switch_s)

    def bl_range(self, gain_word: int) -> None:
        """Set the output range of all BL chips. Codes must be zero."""
        self.dac_register(dac80508.GAIN, gain_word, self.bl.mask)
        self.wait(dac80508.UPDATE_INTERVAL_S)

    def close_sl(self, tia_range: int) -> None:
        """Close the SL switches, amplifiers in the given range.

        A conversion has to come later than switch and amplifier have settled, `mux_switch_s +
        tia_settling_s(range)`: reads write and latch their bit lines and wait in between.
        """
        self.add(Op.LINES, value=OE | tia_range << 1 | 1)

    def open_for_reads(
        self, rows: npt.NDArray[np.int64], tia_range: int, wl_v: float | None = None
    ) -> None:
        """Rows at their amplifiers with open gates, bit lines at rest, switches closed.

        Args:
            rows: whose gates open; the others float.
            tia_range: 0..3.
            wl_v: their gate voltage; default the spec's `wl_read_v`.

        Raises:
            InputError: the gate voltage is outside its limit.
        """
        spec = self._spec
        gates = np.zeros(spec.rows, dtype=np.uint16)
        gate_v = spec.wl_read_v if wl_v is None else wl_v
        gates[rows] = codes_for(np.array(gate_v), spec.wl_limit_v, 5.0, "WL")
        rest = codes_for(np.full(spec.cols, spec.tia_bias_v), spec.bl_limit_v, 1.25, "BL")
        self.switch_sl(spec.sl_tia, rows)
        self.bl_range(dac80508.GAIN_0_TO_1V25)
        self.bl.immediate(self, rest)
        self.wl.immediate(self, gates)
        self.latch()
        self.settle()
        self.close_sl(tia_range)

    def read_vectors(
        self, n: int, rows: npt.NDArray[np.int64], tia_range: int, first: int = 0
    ) -> None:
        """Convert `rows` for n vectors of bit-line codes.

        Args:
            n: vectors, of `cols` codes each in the order of `bl.order`.
            rows: whose currents are converted.
            tia_range: 0..3, as `open_for_reads` has set it.
            first: table element of the first code, beyond the pointer.
        """
        spec = self._spec
        with self.loop(n, stride=spec.cols):
            self.bl.from_table(self, first)
            self.latch()
            self.wait(spec.settling_s(tia_range))
            self.convert(selects_for(spec, rows))

    def convert(self, selects: Sequence[int]) -> None:
        """Convert every ADC multiplexer input in `selects`."""
        for select in selects:
            self.add(Op.CONV, value=select)

    def idle(self) -> None:
        """Switches open, gates closed, then bit lines at zero."""
        self.add(Op.LINES, value=OE)
        self.wl.immediate(self, np.zeros(self._spec.rows, dtype=np.uint16))
        self.wait(dac80508.UPDATE_INTERVAL_S)
        self.latch()
        self.bl.immediate(self, np.zeros(self._spec.cols, dtype=np.uint16))
        self.wait(dac80508.UPDATE_INTERVAL_S)
        self.latch()

    def make_safe(self) -> None:
        """As `idle`, then source lines at ground."""
        self.idle()
        self.switch_sl(self._spec.sl_ground)
        self.close_sl(0)
