"""Every fault of the catalogue, put into a formed and programmed board, is named; nothing else is.

The host under test sees programs and codes. Prints the confusion matrix (`pytest -s`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

from rram_host import open_board
from rram_host.board.diagnosis import KINDS, Diagnosis
from sim.board import EmulatedBoard
from sim.faults import CATALOGUE, parse

HEALTHY_SEEDS = 20


@dataclass(frozen=True)
class Case:
    """A fault as in a URL, and what should be said of it."""

    fault: str
    kind: str
    where: tuple[int, ...]
    exercise: bool = False
    words: str = ""


def case(fault: str, exercise: bool = False, words: str = "") -> Case:
    """The usual case: the kind and the place are named as in the catalogue."""
    (one,) = parse(fault)
    places = tuple(sorted(one.places)) if one.kind.startswith("swapped") else one.places
    return Case(fault, one.kind, places, exercise, words)


CASES = [
    case("stuck_dac:5", words="BL5 stays near 0.4. V"),
    case("stuck_dac:31:0", words="BL31 stays near 0.0. V"),
    case("stuck_dac:12:2.5", words="BL12"),
    case("stuck_dac:0:0.7", words=r"BL0 stays near 0\.[67]\d V"),
    case("stuck_dac:40:2", words="row 8 stay open"),
    # A gate that stays closed carries no current, whoever keeps it closed.
    Case("stuck_dac:40", "open_wl", (8,), words="DAC channel 40 stays below the threshold"),
    case("swapped_dac:33:44", words="WL1 follows .* WL12"),
    case("swapped_dac:3:12", words="BL3 .* BL12"),
    case("swapped_dac:3:40", words="BL3 follows .* WL8"),
    case("dead_dac:1", words="BL8 to BL15"),
    case("dead_dac:6", words="WL16 to WL23"),
    case("dac_reference:2", words=r"-4\d\.\d mV"),
    case("dac_reference:0:1.03", words=r"\+2\d\.\d mV"),
    case("dac_reference:3:0.5", words="below 0.7"),
    case("dac_reference:1:1.25", words=r"about 1\.2\d"),
    case("dac_reference:1:0.9", words=r"-(8|9)\d\.\d mV"),
    case("dac_reference:5", words=r"0\.9[45]\d of the voltage"),
    case("dac_reference:7:1.05", words=r"1\.0[45]\d of the voltage"),
    case("dac_reference:4:0.7", words="WL0 to WL7"),
    case("stuck_mux:14:0", words="bit 0 of SL7.* stays at 0"),
    case("stuck_mux:14:1", words="bit 0 of SL7.* stays at 1"),
    case("stuck_mux:15:0", words="bit 1 of SL7.* stays at 0"),
    case("stuck_mux:15:1", words="bit 1 of SL7.* stays at 1"),
    case("stuck_mux:0:0"),
    case("stuck_mux:63:1"),
    case("swapped_mux:8:9", words="select bits of SL4"),
    case("swapped_mux:0:1", words="select bits of SL0"),
    case("swapped_mux:8:20"),
    case("swapped_mux:8:21"),
    case("swapped_mux:9:21"),
    case("swapped_mux:1:62"),
    case("open_wl:7"),
    case("open_wl:0"),
    case("open_wl:31"),
    case("open_bl:9"),
    case("open_bl:0"),
    case("shorted_cell:3:4"),
    case("shorted_cell:31:31:4e-4"),
    case("stuck_high:4:5", exercise=True),
    case("stuck_high:20:0:7e-5", exercise=True),
    case("stuck_low:9:9", exercise=True),
    case("stuck_low:30:17:0", words="below 1 µS"),
    case("tia_offset:6", words=r"[45]\.\d\d mV"),
    case("tia_saturated:9", words="upper rail"),
    case("adc_gain:2", words=r"reads 0\.90\d"),
    case("adc_gain:7:1.1", words=r"at least 1\.01"),
    case("adc_gain:0:0.97"),
    case("dead_adc:3", words="rows 3, 11, 19, 27"),
    case("adc_reference", words="at least 1.01"),
    case("adc_reference:1.1", words=r"read 0\.9[01]\d"),
]


def programmed(preset: str, seed: int, defects: str = "") -> tuple[EmulatedBoard, np.ndarray]:
    """A board with all cells formed, 20 to 80 uS, and what they hold."""
    emulated = EmulatedBoard(preset, seed=seed)
    cells = emulated.bench.cells
    cells.formed[:] = True
    cells.g = np.random.default_rng(seed).uniform(20e-6, 80e-6, cells.g.shape)
    held = cells.g.copy()
    emulated.inject(defects)
    return emulated, held


def diagnosed(preset: str, seed: int, defects: str = "", exercise: bool = False) -> Diagnosis:
    emulated, held = programmed(preset, seed, defects)
    with open_board(emulated, check=False) as board:
        return board.diagnose(held, exercise)


def matrix_text(named: dict[tuple[str, str], int]) -> str:
    """Rows: what was injected; columns: what was named."""
    columns = [*CATALOGUE, "none", "other"]
    extra = {kind for _, kind in named} - set(columns)
    if extra:
        named = {(row, "other" if kind in extra else kind): n for (row, kind), n in named.items()}
    rows = [*CATALOGUE, "healthy"]
    legend = "  ".join(f"{n}={kind}" for n, kind in enumerate(columns))
    lines = [legend, " " * 15 + "".join(f"{n:>4}" for n in range(len(columns)))]
    for row in rows:
        counts = [named.get((row, kind), 0) for kind in columns]
        lines.append(f"{row:<15}" + "".join(f"{count or '.':>4}" for count in counts))
    return "\n".join(lines)


def test_every_fault_is_named_at_its_place_and_a_healthy_board_has_none():
    named: dict[tuple[str, str], int] = {}
    wrong = []
    for number, one in enumerate(CASES):
        # the seeds of the faulty boards are not those of the healthy ones
        found = diagnosed("taox_180nm", 100 + number, one.fault, one.exercise).findings
        for finding in found:
            key = (parse(one.fault)[0].kind, finding.kind)
            named[key] = named.get(key, 0) + 1
        if not found:
            key = (parse(one.fault)[0].kind, "none")
            named[key] = named.get(key, 0) + 1
        if [(item.kind, item.where) for item in found] != [(one.kind, one.where)]:
            wrong.append(f"{one.fault}: {[(item.kind, item.where) for item in found]}")
        elif not re.search(one.words, found[0].text):
            wrong.append(f"{one.fault}: {found[0].text} lacks {one.words}")
    for seed in range(HEALTHY_SEEDS):
        found = diagnosed("taox_180nm", seed).findings
        for kind in [item.kind for item in found] or ["none"]:
            named["healthy", kind] = named.get(("healthy", kind), 0) + 1
        wrong += [f"healthy board, seed {seed}: {item.text}" for item in found]
    print("\n" + matrix_text(named))
    assert not wrong, "\n".join(wrong)


def test_the_cases_cover_the_catalogue_and_the_host_knows_its_kinds():
    assert {parse(one.fault)[0].kind for one in CASES} == set(CATALOGUE)
    assert set(CATALOGUE) <= set(KINDS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_ideal_board_has_no_fault(seed):
    assert diagnosed("ideal", seed).passed


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_exercise_finds_nothing_on_a_healthy_board(seed):
    result = diagnosed("taox_180nm", seed, exercise=True)
    assert result.passed and result.not_tested == ()


@pytest.mark.parametrize(
    "fault", ["open_wl:7", "stuck_mux:14:0", "stuck_mux:15:1", "swapped_mux:14:15"]
)
def test_without_resistance_of_the_wires_a_dark_row_leaves_candidates(fault):
    """Nothing that a dark row does reaches the others: all that it may be is said."""
    (finding,) = diagnosed("ideal", 1, fault).findings
    assert (finding.kind, finding.where) == ("open_wl", (7,))
    for word in ("WL7", "channel 39", "output 14 stays at 0", "15 stays at 1", "exchanged"):
        assert word in finding.text


def test_a_dead_converter_shows_on_a_board_without_noise():
    (finding,) = diagnosed("ideal", 1, "dead_adc:3").findings
    assert (finding.kind, finding.where) == ("dead_adc", (3,))


@pytest.mark.parametrize(
    "defects",
    [
        "open_wl:7,adc_gain:2,shorted_cell:3:4",
        "tia_offset:1,stuck_mux:20:1,swapped_mux:9:43",
        "swapped_dac:33:44,tia_saturated:30,open_bl:3",
    ],
)
def test_faults_of_different_parts_are_named_together(defects):
    found = diagnosed("taox_180nm", 7, defects).findings
    wanted = {(item.kind, item.places) for item in parse(defects)}
    assert {(item.kind, item.where) for item in found} == wanted
