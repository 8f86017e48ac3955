"""Loops of reads as arrays: loops that write lines, latch, wait and convert."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import Instruction, Op
from sim import kernels
from sim.loop_batch import LoopBatch
from sim.run import UPDATE_CYCLES, Run, is_latch

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]


class ReadBatch(LoopBatch):
    """A loop of reads.

    The control state (codes before and behind the latch) of every iteration follows from the
    table alone, so it is laid out first, for the lines that the loop touches; anything that could
    fault, or that does more than move bit lines gently, is handed back to the reference.
    """

    def prepare(self) -> None:
        """Which lines are written, in which order, and what is converted."""
        body, spec = self.body, self.bench.spec
        self.selects = [item.value for item in body if item.op is Op.CONV]
        self.writes = [item for item in body if item.addr >= dac80508.DAC0]
        self.latches = [item for item in body if is_latch(item)]
        # line of every code written, in the order of writing
        self.written = [line for item in self.writes for line in self._lines(item)]
        self.lines = list(dict.fromkeys(self.written))
        self.table: Codes | None = None
        self.places = [divmod(line, dac80508.N_CHANNELS) for line in self.lines]
        self.line_array = np.array(self.lines, dtype=np.int64)
        self.is_bl = self.bench.is_bl[self.line_array]
        self.bit_lines = self.line_array[self.is_bl]
        # what was found last, with what it was found for
        self.held: tuple[list[int], object, object] = ([], None, None)
        self.timing: tuple[object, int | None] = (None, None)
        self.bounds: tuple[object, object, Array, Array] = (None, None, np.zeros(0), np.zeros(0))
        still = self.bench.bl_channels
        self.still_lines = still[~np.isin(still, self.line_array)] if self.latches else still
        self.moments = [(item.op is Op.CONV, is_latch(item), item.cycles) for item in body]
        self.n_results = len(self.selects) * self.count * spec.adcs
        every_chip = (1 << len(self.bench.dacs)) - 1
        self.usual = (
            bool(self.selects)
            and all(select < spec.selects for select in self.selects)
            and all(item.mask & every_chip == every_chip for item in self.latches)
            and set(self.lines).isdisjoint(self.bench.wl_channels.tolist())
        )
        self.first_element = self._first_element()
        from_table = [item for item in self.writes if item.op is Op.DACT]
        reach = [item.value + len(self.seq._chips(item.mask)) for item in from_table]
        self.reach = (self.count - 1) * self.stride + max(reach) if reach else -(1 << 62)

    def _lines(self, item: Instruction) -> list[int]:
        channel = item.addr - dac80508.DAC0
        return [chip * dac80508.N_CHANNELS + channel for chip in self.seq._chips(item.mask)]

    def plan(self, run: Run) -> bool:
        """Lay out every iteration; False where the reference has to run it."""
        self.run = run
        # groups of conversions at the same voltages: (codes (count, lines), selects)
        self.reads: list[tuple[Codes, list[int]]] = []
        self.written_codes: list[tuple[int, int]] = []
        self.shown_codes: list[Codes] = []
        self.largest_v = 0.0
        seq, bench = self.seq, self.bench
        if (
            not self.usual
            or run.n_results + self.n_results > run.results.size
            or run.pointer + self.reach > run.table.size
            or any(dac.sync & 0xFF != dac80508.SYNC_ALL or dac.config for dac in bench.dacs)
            or (bench.enable and not bench.only_reads())
            or (bool(self.writes) and seq.in_reset())
            or not self._latch_moves_only_own_lines()
            or not self._timing_holds()
        ):
            return False
        self._layout()
        return self._within_limits() and self._gentle()

    def _latch_moves_only_own_lines(self) -> bool:
        """No line that the loop does not write waits behind the latch, and no limit was lowered."""
        if not self.latches:
            return True
        waiting = {
            d * dac80508.N_CHANNELS + channel
            for d, dac in enumerate(self.bench.dacs)
            if dac.buffer != dac.active
            for channel, code in enumerate(dac.buffer)
            if code != dac.active[channel]
        }
        return waiting <= set(self.lines) and self._buffers_within_limits()

    def _buffers_within_limits(self) -> bool:
        full, limits = self.bench.full_scales_v(), self.run.limits
        buffer: list[int] = []
        for dac in self.bench.dacs:
            buffer += dac.buffer
        # a program begins from what it began from last time
        if not (self.held[0] == buffer and self.held[1] is full and self.held[2] is limits):
            if not (np.array(buffer) * full <= limits[: full.size] * 5.0).all():
                return False
            self.held = buffer, full, limits
        return True

    def _timing_holds(self) -> bool:
        """Updates 1 us apart and conversions settled, in the first and in every later iteration."""
        seq, now = self.seq, self.seq.clock.cycles
        since = (now - seq.last_update, now - seq.last_closed)
        key = (*since, self.bench.tia_range, self.bench.enable)
        if self.timing[0] != key:
            self.timing = key, self._last_update()
        if self.timing[1] is not None:
            self.last_update = now + self.timing[1]
        return self.timing[1] is not None

    def _last_update(self) -> int | None:
        """Cycles from now to the last update of the last iteration; None where a rule is broken."""
        seq = self.seq
        last, now = seq.last_update, seq.clock.cycles + self.head_cycles
        checked = min(self.count, 2)
        for _ in range(checked):
            for converts, latches, cycles in self.moments:
                if converts and not seq.may_convert(now, last):
                    return None
                now += cycles
                if latches:
                    if now - last < UPDATE_CYCLES:
                        return None
                    last = now
            now += microcode.CYCLES_STEP
        return last - seq.clock.cycles + (self.count - checked) * self.cycles * bool(self.latches)

    # ---- layout -----------------------------------------------------------------------------

    def _layout(self) -> None:
        """Codes of every iteration at every conversion."""
        rows = self._rows_of_table()
        if rows is not None:
            self.table = rows
            self.reads = [(rows, self.selects)]
            self.end_buffer = self.end_active = rows[-1]
            return
        self.table = None
        bench, count = self.bench, self.count
        first_b = np.array([code for dac in bench.dacs for code in dac.buffer])[self.lines]
        first_a = bench.active_codes()[self.lines]
        ends_b = np.broadcast_to(first_b, (count, first_b.size))
        ends_a = np.broadcast_to(first_a, (count, first_a.size))
        # An iteration starts from what the one before left: buffers depend on their own iteration
        # or on none, latched codes on buffers, so two passes reach the fixed point.
        for final in (False, False, True):
            start_b = np.concatenate([first_b[None], ends_b[:-1]])
            start_a = np.concatenate([first_a[None], ends_a[:-1]])
            ends_b, ends_a = self._pass(start_b, start_a, record=final)
        self.end_buffer, self.end_active = ends_b[-1], ends_a[-1]

    def _rows_of_table(self) -> Codes | None:
        """The table itself as codes (count, lines), where the body allows it."""
        if self.first_element is None:
            return None
        table, step = self.run.table, self.run.table.itemsize
        return np.ndarray(
            (self.count, len(self.lines)),
            table.dtype,
            table,
            (self.run.pointer + self.first_element) * table.strides[0],
            (self.stride * step, step),
        )

    def _first_element(self) -> int | None:
        """Table element, from the pointer, where the codes of an iteration lie as `lines` do.

        Such is the body of every usual program: each line is written from the table once, then all
        are latched, then converted, and an iteration takes its codes from one stretch of the
        table, stretch behind stretch. None where it is not.
        """
        order = [
            1 if is_latch(item) else 0 if item.addr >= dac80508.DAC0 else 2
            for item in self.body
            if item.op is Op.CONV or item.addr
        ]
        if order != sorted(order) or order.count(1) != 1 or len(self.lines) != len(self.written):
            return None
        place = self.writes[0].value if self.writes else -1
        expected = place
        for item in self.writes:
            if item.op is not Op.DACT or item.value != expected:
                return None
            expected += len(self._lines(item))
        return place if self.lines and self.stride >= len(self.lines) else None

    def _pass(self, start_b: Codes, start_a: Codes, record: bool) -> tuple[Codes, Codes]:
        """One execution of the body for all iterations from given start states."""
        buffer, active = start_b.astype(np.uint16), start_a.astype(np.uint16)
        starts = self.run.pointer + self.stride * np.arange(self.count)
        shown: Codes | None = None
        for item in self.body:
            if item.addr >= dac80508.DAC0:
                for k, line in enumerate(self._lines(item)):
                    from_table = item.op is Op.DACT
                    codes = self.run.table[starts + item.value + k] if from_table else item.value
                    buffer[:, self.lines.index(line)] = codes
                    if record:
                        self.written_codes.append((line, int(np.max(codes))))
            elif is_latch(item):
                active, shown = buffer.copy(), None
                if record:
                    self.shown_codes.append(active)
            elif item.op is Op.CONV and record:
                if shown is None:
                    shown = active.copy()
                    self.reads.append((shown, []))
                self.reads[-1][1].append(item.value)
        return buffer, active

    def _within_limits(self) -> bool:
        """Every code written keeps its line within its limit."""
        full, limits = self.bench.full_scales_v(), self.run.limits
        if self.table is None:
            limit = limits * 5.0
            return all(code * full[line] <= limit[line] for line, code in self.written_codes)
        if not (self.bounds[0] is full and self.bounds[1] is limits):
            lines = self.line_array
            self.bounds = full, limits, full[lines], 5.0 * limits[lines]
        self.ends = kernels.extremes(self.table)
        return bool((self.ends[1] * self.bounds[2] <= self.bounds[3]).all())

    def _gentle(self) -> bool:
        """Bit lines stay near the virtual ground, so that nothing is stressed; how near."""
        bench = self.bench
        bias_v, lines, still = bench.spec.tia_bias_v, self.bit_lines, self.still_lines
        if still.size:
            rest_v = bench.line_law(still, bias_v).volts(bench.active_codes()[still])
            self.largest_v = float(np.abs(rest_v).max())
        # the transfer curve is monotonic: the ends of a line's codes bound its voltage
        ends = [self.ends] if self.table is not None else map(kernels.extremes, self.shown_codes)
        for codes in ends if lines.size else ():
            mine = codes if lines.size == len(self.lines) else codes[:, self.is_bl]
            self.largest_v = max(self.largest_v, bench.line_law(lines, bias_v).furthest_v(mine))
        if bench.reads_gently(self.largest_v):
            return True
        return not bench.enable or not bench.conducts(bench.wl_volts())

    def commit(self) -> None:
        """Convert, write results in program order, and leave the state of the last iteration."""
        seq, bench = self.seq, self.bench
        plans = [bench.read_plan(self.lines, selects, self.largest_v) for _, selects in self.reads]
        if len(plans) == 1:
            plans[0].words(self.reads[0][0], self.run.room(self.n_results))
        else:
            words = [plan.words(codes) for plan, (codes, _) in zip(plans, self.reads, strict=True)]
            self.run.push(np.concatenate(words, axis=1))
        self.run.pointer += self.count * self.stride
        self.run.mark = self.run.mark if self.mark is None else self.mark
        behind, shown, dacs = self.end_buffer.tolist(), self.end_active.tolist(), bench.dacs
        for k, (chip, channel) in enumerate(self.places):
            dacs[chip].buffer[channel] = behind[k]
            dacs[chip].active[channel] = shown[k]
        seq.clock.advance(self.head_cycles + self.count * self.cycles)
        seq.last_update = self.last_update
