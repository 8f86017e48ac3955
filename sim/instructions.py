"""What one instruction does to the parts, and the rules that it may break: the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from firmware_bridge import microcode
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508, sn74hc595
from firmware_bridge.microcode import Fault, Instruction, Op
from sim.bench import Bench
from sim.clock import Clock
from sim.run import (
    RESET_CYCLES,
    SETTLE_CYCLES,
    UPDATE_CYCLES,
    ProgramFault,
    Run,
    stressed_s,
)

# Lines that stay on a cell until the next instruction are taken as one long pulse.
_STATIC_STRESS_S = 1e-3


def _nobody() -> None:
    """Who wants to know of rails that move, where nobody does."""


class Instructions:
    """Carries out single instructions.

    Args:
        bench: the parts.
        clock: board time.

    Attributes:
        last_update, last_closed, last_shift, last_reset: board clock when outputs last moved,
            switches closed, select lines moved, and each DAC was reset.
        rails_moved: called after every update of outputs, and every change of the direct lines.
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.bench, self.clock = bench, clock
        spec, hz = bench.spec, microcode.CLOCK_HZ
        # in whole cycles, as the gateware counts them
        self._switch_cycles = int(np.ceil(spec.mux_switch_s * hz))
        self._tia_cycles = [int(np.ceil(spec.tia_settling_s(r) * hz)) for r in range(4)]
        self._read_cycles = [int(np.ceil(spec.settling_s(r) * hz)) for r in range(4)]
        # by chip mask
        self._chips_of = [
            tuple(chip for chip in range(spec.dac_chips) if mask >> chip & 1) for mask in range(256)
        ]
        self._limits_v: list[float] = []
        self.rails_moved: Callable[[], None] = _nobody
        self.power_up()

    def power_up(self) -> None:
        """Forget what happened before: everything has settled long since."""
        self.last_update = self.last_closed = self.last_shift = -RESET_CYCLES
        self.last_reset = [-RESET_CYCLES] * self.spec.dac_chips

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        return self.bench.spec

    def _execute(self, item: Instruction, run: Run) -> None:
        op = item.op
        if op in (Op.DAC, Op.DACT):
            self._dac(item, run)
        elif op is Op.DREAD:
            self._readback(item, run)
        elif op is Op.SHIFT:
            self._shift(item)
        elif op is Op.LINES:
            self._lines(item)
        elif op is Op.PULSE:
            self._pulse(item, run)
        elif op is Op.CONV:
            self._convert(item, run)
        else:
            if op is Op.PTR:
                run.pointer = item.value
            elif op is Op.MARK:
                run.mark = item.value
            self.clock.advance(item.cycles)

    def _chips(self, mask: int) -> tuple[int, ...]:
        return self._chips_of[mask]

    def _dac(self, item: Instruction, run: Run) -> None:
        chips = self._chips(item.mask)
        if item.op is Op.DACT:
            base = run.pointer + item.value
            data = [run.element(base + k) for k in range(len(chips))]
        else:
            data = [item.value] * len(chips)
        self._awake(chips)
        for chip, word in zip(chips, data, strict=True):
            self._check_limit(chip, item.addr, word)
        updated = False
        for chip, word in zip(chips, data, strict=True):
            dac = self.bench.dacs[chip]
            before = dac.updates
            self.bench.frame(chip, dac80508.write_frame(item.addr, word))
            updated |= dac.updates != before
        self.clock.advance(item.cycles)
        for chip, word in zip(chips, data, strict=True):
            if item.addr == dac80508.TRIGGER and word & 0xF == dac80508.TRIGGER_SOFT_RESET:
                self.last_reset[chip] = self.clock.cycles
        if updated:
            self._outputs_updated()

    def _awake(self, chips: tuple[int, ...]) -> None:
        """A DAC80508 takes no frame for 250 us after a soft reset."""
        for chip in chips if self.in_reset() else ():
            passed = self.clock.cycles - self.last_reset[chip]
            if passed < RESET_CYCLES:
                raise ProgramFault(Fault.DAC_IN_RESET, passed)

    def _outputs_updated(self) -> None:
        passed = self.clock.cycles - self.last_update
        if passed < UPDATE_CYCLES:
            raise ProgramFault(Fault.DAC_UPDATE_TOO_SOON, passed)
        self.last_update = self.clock.cycles
        self._static_stress()
        self.rails_moved()

    def _check_limit(self, chip: int, addr: int, data: int) -> None:
        """Refuse a word that could put an output above its limit, before it is sent.

        Limits are in 5 V / 65536, so a code counts by the full scale of its channel.
        """
        dac = self.bench.dacs[chip]
        if addr >= dac80508.DAC0:
            self._check_code(chip, addr - dac80508.DAC0, data, dac.gain)
        elif addr == dac80508.BRDCAST:
            for channel in range(dac80508.N_CHANNELS):
                if dac.sync >> (8 + channel) & 1:
                    self._check_code(chip, channel, data, dac.gain)
        elif addr == dac80508.GAIN:
            for channel, code in enumerate(map(max, dac.buffer, dac.active)):
                self._check_code(chip, channel, code, data & 0x07FF)
        elif addr == dac80508.TRIGGER and data & dac80508.TRIGGER_LDAC and dac.buffer != dac.active:
            # written under higher limits, perhaps
            for channel, code in enumerate(dac.buffer):
                if dac.sync >> channel & 1:
                    self._check_code(chip, channel, code, dac.gain)

    def _check_code(self, chip: int, channel: int, code: int, gain: int) -> None:
        line = chip * dac80508.N_CHANNELS + channel
        if code * dac80508.full_scale_v(gain, channel) > self._limits_v[line]:
            raise ProgramFault(Fault.LIMIT, line)

    def _readback(self, item: Instruction, run: Run) -> None:
        words = []
        chips = self._chips(item.mask)
        self._awake(chips)
        for chip in chips:
            self.bench.frame(chip, dac80508.read_frame(item.addr))
            reply = self.bench.frame(chip, dac80508.write_frame(dac80508.NOP, 0))
            words += [reply >> 16 & 0xFF, reply & 0xFFFF]
        run.push(np.array(words, dtype=np.uint16))
        self.clock.advance(item.cycles)

    def _shift(self, item: Instruction) -> None:
        if self.bench.enable:
            raise ProgramFault(Fault.SWITCH_ADDRESS_MOVED)
        self.bench.shift(sn74hc595.outputs_from_words(item.data, item.value))
        self.clock.advance(item.cycles)
        self.last_shift = self.clock.cycles

    def _lines(self, item: Instruction) -> None:
        bench = self.bench
        enable, oe, tia_range = bool(item.value & 1), bool(item.value >> 3 & 1), item.value >> 1 & 3
        if enable and (not bench.latched or not oe):
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        if enable:
            self._past(self.last_shift, self._switch_cycles, Fault.SWITCH_TOO_SOON)
        if oe and not bench.oe:
            self.last_shift = self.clock.cycles  # select lines come up from where pull-downs held
        moved = enable and (not bench.enable or tia_range != bench.tia_range)
        bench.enable, bench.oe, bench.tia_range = enable, oe, tia_range
        self.clock.advance(item.cycles)
        if moved:
            self.last_closed = self.clock.cycles
        self._static_stress()
        self.rails_moved()

    def _static_stress(self) -> None:
        if self.bench.enable and not self.bench.at_rest():
            self.bench.stress(_STATIC_STRESS_S, self.clock.cycles)

    def _past(self, moment: int, cycles: int, fault: Fault) -> None:
        """At least so many cycles have passed since then."""
        passed = self.clock.cycles - moment
        if passed < cycles:
            raise ProgramFault(fault, passed)

    def _pulse(self, item: Instruction, run: Run) -> None:
        if not self.bench.latched or not self.bench.oe:
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        self._past(self.last_update, SETTLE_CYCLES, Fault.NOT_SETTLED)
        self._past(self.last_shift, self._switch_cycles, Fault.SWITCH_TOO_SOON)
        if item.value < self._switch_cycles:
            raise ProgramFault(Fault.PULSE_TOO_SHORT, item.value)
        run.pulse_allowed(item.value)
        self.clock.advance(item.cycles)
        # An open source line is held by the unselected bit lines through the other cells of its
        # row, so cells carry most of the voltage from the DAC update on, not from the switch.
        self.bench.stress(stressed_s(self.clock.cycles - self.last_update), self.clock.cycles)
        self.bench.enable = False

    def _convert(self, item: Instruction, run: Run) -> None:
        if item.value >= self.spec.selects:
            raise ProgramFault(Fault.BAD_SELECT, item.value)
        settling, closing = self._conversion_rules()
        self._past(self.last_update, settling, Fault.NOT_SETTLED)
        self._past(self.last_closed, closing, Fault.SWITCH_TOO_SOON)
        run.push(self.bench.convert(item.value))
        self.clock.advance(item.cycles)

    def _conversion_rules(self) -> tuple[int, int]:
        """Least cycles between an update, or a closing of the switches, and a conversion."""
        tia_range = self.bench.tia_range
        closing = self._switch_cycles + self._tia_cycles[tia_range] if self.bench.enable else 0
        return self._read_cycles[tia_range], closing

    def may_convert(self, now: int, last_update: int) -> bool:
        """Whether a conversion at cycle `now` breaks no rule of timing."""
        settling, closing = self._conversion_rules()
        return now - last_update >= settling and now - self.last_closed >= closing

    def may_pulse(self, now: int, last_update: int, cycles: int) -> bool:
        """Whether a pulse of so many cycles, at cycle `now`, breaks no rule of timing."""
        settled = now - last_update >= SETTLE_CYCLES
        turned_on = min(now - self.last_shift, cycles) >= self._switch_cycles
        return settled and turned_on

    def in_reset(self) -> bool:
        """Whether a DAC may still be resetting."""
        return self.clock.cycles - max(self.last_reset) < RESET_CYCLES
