"""A program for people: every instruction with its time, and what it does to which line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from firmware_bridge import microcode
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508, sn74hc595
from firmware_bridge.microcode import CLOCK_HZ, Instruction, Op
from rram_host.board.check.program_check import ProgramCheck, Words


class Listing:
    """The text of a program, a line an instruction.

    Args:
        words: the program; one that decodes.
        spec: the board, for the names of lines.
        check: what the program does, for its times.
    """

    def __init__(self, words: Words, spec: BoardSpec, check: ProgramCheck) -> None:
        self._words, self._spec, self._check = words, spec, check
        self._gain: dict[int, int] = {}  # by chip, as far as the program has set it
        self._names = {ch: f"BL{c}" for c, ch in enumerate(spec.bl_channel)}
        self._names |= {ch: f"WL{r}" for r, ch in enumerate(spec.wl_channel)}
        for channel in spec.wl_channel:
            self._gain[channel // dac80508.N_CHANNELS] = dac80508.GAIN_0_TO_5_V

    def lines(self) -> Iterator[str]:
        """Word index, time of the first execution, instruction, and what it does.

        Raises:
            InputError: a word is no instruction.
        """
        place = depth = 0
        for item in microcode.decode(self._words.tolist()):
            depth -= item.op is Op.NEXT
            at_s = self._check.first_s[place]
            when = "     never" if np.isnan(at_s) else f"{at_s * 1e6:10.2f}"
            text = f"{'  ' * depth}{_short(item)}"
            yield f"{place:5d} {when}  {text:<44} {self._meaning(item)}".rstrip()
            depth += item.op is Op.LOOP
            place += 1 + len(item.data)

    def _meaning(self, item: Instruction) -> str:
        if item.op in (Op.DAC, Op.DACT, Op.DREAD):
            return self._dac(item)
        if item.op is Op.SHIFT:
            return self._inputs(item)
        if item.op is Op.LINES:
            on = "closed" if item.value & 1 else "open"
            held = "" if item.value >> 3 & 1 else ", their select lines off"
            return f"SL switches {on}, amplifiers in range {item.value >> 1 & 3}{held}"
        if item.op is Op.PULSE:
            return f"pulse of {_time(item.value)}"
        if item.op is Op.WAIT:
            return _time(item.value)
        if item.op is Op.CONV:
            rows = np.flatnonzero(np.array(self._spec.select_of_row) == item.value)
            return f"convert {_names('SL', rows.tolist())}"
        return ""

    # ---- DACs -------------------------------------------------------------------------------

    def _dac(self, item: Instruction) -> str:
        chips = [chip for chip in range(self._spec.dac_chips) if item.mask >> chip & 1]
        if item.op is Op.DREAD:
            return "read back"
        if item.addr == dac80508.TRIGGER:
            reset = item.value & 0xF == dac80508.TRIGGER_SOFT_RESET
            return "soft reset" if reset else "outputs take their codes"
        if item.addr == dac80508.GAIN:
            self._gain |= dict.fromkeys(chips, item.value)
            return f"0 to {_volts(dac80508.full_scale_v(item.value, 0))}"
        if item.addr == dac80508.SYNC:
            return "outputs wait for their trigger"
        if item.addr < dac80508.DAC0:
            return ""
        return self._outputs(item, chips)

    def _outputs(self, item: Instruction, chips: list[int]) -> str:
        output = item.addr - dac80508.DAC0
        channels = [chip * dac80508.N_CHANNELS + output for chip in chips]
        names = ", ".join(self._names.get(channel, f"channel {channel}") for channel in channels)
        if item.op is Op.DACT:
            return f"{names} from the table"
        gains = {self._gain.get(chip) for chip in chips}
        if item.value == 0:
            return f"{names} = 0 V"
        if len(gains) != 1 or None in gains:
            return f"{names}, range unknown"
        full_v = dac80508.full_scale_v(gains.pop() or 0, output)
        return f"{names} = {_volts(item.value * full_v / dac80508.FULL_SCALE)}"

    # ---- switches ---------------------------------------------------------------------------

    def _inputs(self, item: Instruction) -> str:
        spec = self._spec
        if item.value != 2 * spec.rows:
            return "does not fill the chain"
        bits = sn74hc595.outputs_from_words(item.data, item.value).astype(int)
        chosen = bits[list(spec.sl_bit0)] + 2 * bits[list(spec.sl_bit1)]
        parts = []
        for name in ("tia", "ground", "rail", "float"):
            rows = np.flatnonzero(chosen == getattr(spec, f"sl_{name}")).tolist()
            if rows:
                parts.append(f"{_names('SL', rows)} at {name}")
        return "; ".join(parts).replace("at tia", "at their amplifiers").replace("at float", "open")


def _short(item: Instruction) -> str:
    """The instruction, without the words of a chain: they are told as inputs."""
    return f"SHIFT bits={item.value}" if item.op is Op.SHIFT else str(item)


def _time(cycles: int) -> str:
    seconds = cycles / CLOCK_HZ
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.6g} {unit}"
    return f"{seconds * 1e6:.2f} us"


def _volts(volts: float) -> str:
    return f"{volts:.4g} V"


def _names(kind: str, places: list[int]) -> str:
    """`SL0-2, SL5`: lines that follow one another as a range."""
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(f"{kind}{run[0]}" + (f"-{run[-1]}" if run[1:] else "") for run in runs)


def budgets(check: ProgramCheck) -> list[tuple[str, str]]:
    """What a program takes, as rows of a table: what, how much."""
    row, col = np.unravel_index(int(check.energy_j.argmax()), check.energy_j.shape)
    rows = [
        ("time", f"{check.total_s:.6g} s"),
        ("results", f"{check.results}"),
        ("pulses", f"{check.pulse_count}, on {int((check.pulses > 0).sum())} cells"),
        (
            "highest BL",
            f"{_volts(float(check.bl_peak_v.max()))}, BL{int(check.bl_peak_v.argmax())}",
        ),
        (
            "highest WL",
            f"{_volts(float(check.wl_peak_v.max()))}, WL{int(check.wl_peak_v.argmax())}",
        ),
    ]
    if check.pulse_count:
        rows += [
            ("highest across a cell", _volts(float(check.peak_v.max()))),
            ("most pulses on a cell", f"{int(check.pulses.max())}"),
            ("most energy into a cell", f"at most {check.energy_j.max():.3g} J, ({row}, {col})"),
        ]
    return rows
