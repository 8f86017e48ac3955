"""Laws of the register map: nothing overlaps, everything lies in the window."""

import itertools

from firmware_bridge import registers
from firmware_bridge.registers import MEMORIES, REGISTERS


def test_registers_are_words_that_do_not_overlap():
    offsets = [register.offset for register in REGISTERS]
    assert all(offset % 4 == 0 for offset in offsets)
    assert len(set(offsets)) == len(offsets)
    assert len({register.name for register in REGISTERS}) == len(REGISTERS)


def test_memories_lie_in_the_window_apart_from_each_other_and_from_the_registers():
    spans = [(m.offset, m.end) for m in MEMORIES]
    spans += [(r.offset, r.offset + 4) for r in REGISTERS]
    assert all(0 <= start < end <= registers.WINDOW_BYTES for start, end in spans)
    for (_, end), (start, _) in itertools.pairwise(sorted(spans)):
        assert end <= start


def test_fields_fit_their_register_and_do_not_overlap():
    for register in REGISTERS:
        taken = 0
        for field in register.fields:
            assert 31 >= field.high >= field.low >= 0
            assert not taken & field.mask
            taken |= field.mask


def test_the_words_that_gateware_decodes_are_these_literal_ones():
    """A change of this table is a change of the gateware: it must be made on purpose."""
    literal = {
        "IDENT": 0x000,
        "CONTRACT_HASH": 0x004,
        "GEOMETRY": 0x00C,
        "CONVERTERS": 0x010,
        "CTRL": 0x014,
        "STATUS": 0x018,
        "FAULT_CODE": 0x01C,
        "FAULT_PC": 0x020,
        "FAULT_INFO": 0x024,
        "RESULT_COUNT": 0x028,
        "ENTRY": 0x02C,
        "SAFE_ENTRY": 0x030,
        "TABLE_COUNT": 0x034,
        "CYCLES_LO": 0x038,
        "CYCLES_HI": 0x03C,
        "RUN_CYCLES_LO": 0x040,
        "RUN_CYCLES_HI": 0x044,
        "FAULT_TIME": 0x054,
        "WATCHDOG": 0x058,
        "PULSE_LIMIT": 0x05C,
        "PULSES_LIMIT": 0x060,
        "KICK": 0x064,
        "WATCHDOG_TRIPS": 0x068,
        "LIMIT00": 0x100,
        "LIMIT63": 0x1FC,
    }
    assert {name: registers.offset(name) for name in literal} == literal
    assert [m.offset for m in MEMORIES] == [0x1_0000, 0x8_0000, 0x10_0000]
    assert int.from_bytes(b"RRAM", "big") == registers.IDENTITY
    commands = {f.name: f.mask for f in registers.BY_NAME["CTRL"].fields}
    assert commands == {"START": 1, "SAFE": 2, "CLEAR_FAULT": 4, "RESET": 8}
    state = {f.name: f.mask for f in registers.BY_NAME["STATUS"].fields}
    assert state == {"BUSY": 1, "DONE": 2, "FAULT": 4, "LIVE": 8}


def test_constants_of_commands_and_states_are_the_masks_of_their_fields():
    commands = {f.name: f.mask for f in registers.BY_NAME["CTRL"].fields}
    assert commands["START"] == registers.CTRL_START
    assert commands["SAFE"] == registers.CTRL_SAFE
    assert commands["CLEAR_FAULT"] == registers.CTRL_CLEAR_FAULT
    assert commands["RESET"] == registers.CTRL_RESET
    state = {f.name: f.mask for f in registers.BY_NAME["STATUS"].fields}
    assert state["BUSY"] == registers.STATUS_BUSY
    assert state["DONE"] == registers.STATUS_DONE
    assert state["FAULT"] == registers.STATUS_FAULT
    assert state["LIVE"] == registers.STATUS_LIVE


def test_the_watchdog_runs_from_reset_on_and_pulses_are_locked():
    at_reset = {name: registers.BY_NAME[name].reset for name in ("PULSE_LIMIT", "PULSES_LIMIT")}
    assert at_reset == {"PULSE_LIMIT": 0, "PULSES_LIMIT": 0}
    assert registers.BY_NAME["WATCHDOG"].reset * 10 == 2_000_000_000  # nanoseconds
    assert registers.BY_NAME["KICK"].access == "wo"
    assert registers.BY_NAME["WATCHDOG_TRIPS"].access == "ro"


def test_every_dac_channel_has_a_limit_that_is_locked_after_reset():
    limits = [r for r in REGISTERS if r.name.startswith("LIMIT")]
    assert len(limits) == 64  # 8 chips of 8 channels
    assert {r.reset for r in limits} == {0}
    assert {r.access for r in limits} == {"rw"}


def test_memories_hold_4096_vectors_of_32_codes_and_their_products():
    assert 2 * registers.TABLE.words >= 4096 * 32
    assert 2 * registers.RESULTS.words >= 4096 * 32
