"""The QCoDeS driver with the real QCoDeS: parameters, a measurement into a database, a station."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qcodes.dataset import Measurement, initialised_database_at, load_or_create_experiment
from qcodes.instrument import Instrument
from qcodes.station import Station

from firmware_bridge import board_spec
from firmware_bridge.readout import CELL_RANGE
from rram_host import open_board
from rram_host.drivers.qcodes_driver import RramBoard
from rram_host.errors import LinkError
from sim.board import EmulatedBoard
from tests.array.rig import emulated_with, on_grid, random_g

HELD = random_g(5)
SPEC = board_spec.load()
LSB_A = SPEC.current_lsb_a(0)  # of the least sensitive range
LSB_SIEMENS = SPEC.current_lsb_a(CELL_RANGE) / SPEC.read_voltage_v


@pytest.fixture
def emulated():
    return emulated_with(HELD)


@pytest.fixture
def board(emulated: EmulatedBoard):
    instrument = RramBoard("rram", emulated)
    yield instrument
    instrument.close()


def test_arrays_come_with_their_lines_as_setpoints(board: RramBoard):
    np.testing.assert_allclose(board.conductances(), HELD, atol=LSB_SIEMENS)
    assert (board.conductances.unit, board.conductances.setpoints) == (
        "S",
        (board.rows, board.cols),
    )
    assert board.rows().tolist() == board.cols().tolist() == list(range(32))


def test_the_chosen_cell_is_read_and_no_other(board: RramBoard):
    for cell in ((0, 0), (3, 17), (31, 31)):
        board.row(cell[0])
        board.col(cell[1])
        assert board.conductance() == pytest.approx(HELD[cell], abs=LSB_SIEMENS)


def test_products_are_those_of_ohm_and_kirchhoff(board: RramBoard):
    volts = on_grid(np.random.default_rng(3).uniform(-0.09, 0.09, (2, 32)))
    np.testing.assert_allclose(board.vmm(volts), volts @ HELD.T, atol=LSB_A)
    board.inputs(volts[0])
    np.testing.assert_allclose(board.products(), HELD @ volts[0], atol=LSB_A)


def test_a_reset_and_a_set_pulse_reach_the_chosen_cell_alone(
    board: RramBoard, emulated: EmulatedBoard
):
    board.row(4)
    board.col(9)
    low = board.reset_cell(1.8)
    high = board.set_cell(1.6)
    assert low < high
    pulsed = np.argwhere(emulated.truth.pulses).tolist()
    assert pulsed == [[4, 9]] and board.pulses() == emulated.truth.pulses.sum() == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("row", 32),
        ("col", -1),
        ("average", 0),
        ("inputs", np.full(32, 0.11)),
        ("inputs", np.zeros(31)),
    ],
)
def test_a_value_out_of_bounds_is_refused_before_the_board_hears_of_it(board, name, value):
    before = board.board.traffic.transactions
    with pytest.raises(Exception, match=f"rram_{name}"):
        board.parameters[name](value)
    assert board.board.traffic.transactions == before


@pytest.mark.parametrize("volts", [-0.1, 50.0])
def test_pulses_beyond_the_limits_are_refused(board, emulated, volts):
    for pulse in (board.set_cell, board.reset_cell):
        with pytest.raises(Exception, match="is invalid"):
            pulse(volts)
    assert not emulated.truth.pulses.any()


def test_a_snapshot_names_the_board_and_reads_no_cell(board: RramBoard):
    before = board.board.traffic.programs
    told = board.snapshot(update=False)
    assert board.board.traffic.programs == before
    assert told["parameters"]["IDN"]["value"]["model"] == "zc706"
    json.dumps(told, default=str)


def test_a_measurement_goes_into_a_database_and_comes_back(board: RramBoard, tmp_path: Path):
    with initialised_database_at(str(tmp_path / "x.db")):
        measurement = Measurement(exp=load_or_create_experiment("map", "chip7"))
        measurement.register_parameter(board.average)
        measurement.register_parameter(board.conductances, setpoints=(board.average,))
        with measurement.run(write_in_background=False) as saver:
            for average in (1, 4):
                board.average(average)
                saver.add_result(
                    (board.average, average), (board.conductances, board.conductances())
                )
        kept = saver.dataset.get_parameter_data("rram_conductances")["rram_conductances"]
        saver.dataset.conn.close()
    assert kept["rram_conductances"].shape == (2, 32, 32)
    np.testing.assert_array_equal(kept["rram_rows"][0][:, 0], np.arange(32))
    np.testing.assert_array_equal(kept["rram_cols"][0][0], np.arange(32))
    for read in kept["rram_conductances"]:
        np.testing.assert_allclose(read, HELD, atol=LSB_SIEMENS)


STATION = """
instruments:
  rram:
    type: rram_host.drivers.qcodes_driver.RramBoard
    address: sim://?preset=ideal&seed=3&state={state}
    init: {{passport: {passport}}}
    parameters: {{average: {{initial_value: 2}}}}
"""


def test_a_station_file_opens_it_with_its_passport(tmp_path: Path):
    state, passport = tmp_path / "chip.npz", tmp_path / "chip.json"
    with open_board(f"sim://?preset=ideal&seed=3&state={state}", passport=passport) as board:
        board.array.form()
    text = STATION.format(state=state, passport=passport)
    station = Station(config_file=_written(tmp_path / "station.yaml", text))
    instrument = station.load_instrument("rram")
    try:
        assert instrument.average() == 2
        assert instrument.get_idn()["serial"] == json.loads(passport.read_text())["chip"]
        assert (instrument.conductances() > 1e-6).all()
    finally:
        Instrument.close_all()


def _written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_closing_makes_the_rails_safe_and_the_name_free(emulated: EmulatedBoard):
    instrument = RramBoard("rram", emulated)
    instrument.close()
    instrument.close()
    rails = emulated.truth.rails_v
    assert all(rails[f"{line}{n}"] == 0 for line in ("BL", "WL") for n in range(32))
    RramBoard("rram", emulated_with(None)).close()


def test_a_board_that_is_not_there_leaves_no_instrument_behind():
    with pytest.raises(LinkError):
        RramBoard("rram", "socket://127.0.0.1:1")
    gc.collect()
    assert not Instrument.exist("rram")


def test_it_writes_nothing_into_the_home_folder(tmp_path: Path):
    code = (
        "from rram_host.drivers.qcodes_driver import RramBoard\n"
        "RramBoard('rram', 'sim://?preset=ideal').close()"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Connected to: rram-bench zc706" in done.stdout
    assert [path for path in home.rglob("*qcodes*")] == []
