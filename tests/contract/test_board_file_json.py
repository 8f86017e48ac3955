"""Board files where Python has no parser of TOML: 3.10, on the board itself."""

import sys
from pathlib import Path

import pytest

from firmware_bridge import board_file, board_spec
from firmware_bridge.errors import InputError

NAMES = sorted(path.stem for path in board_file.BOARDS.glob("*.toml"))


@pytest.fixture
def without_tomllib(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)  # import then raises ImportError


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_the_same_board_with_and_without_a_parser(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    by_toml = board_spec.load(name)
    monkeypatch.setitem(sys.modules, "tomllib", None)
    assert board_spec.load(name) == by_toml


def test_a_file_as_json_is_the_same_board(tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_text(board_file.as_json("zc706"), encoding="utf-8")
    assert board_spec.load(path) == board_spec.load("zc706")


def test_toml_without_a_parser_says_what_to_do(without_tomllib):
    with pytest.raises(InputError, match=r"zc706.toml: TOML needs Python 3.11; convert .* JSON"):
        board_file.read(board_file.BOARDS / "zc706.toml")


@pytest.mark.parametrize("text", ["", "[]", "{", '"zc706"'])
def test_what_is_no_object_of_json_is_refused(text: str, tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is not a JSON file"):
        board_file.read(path)


def test_an_unknown_name_lists_the_known_ones(without_tomllib):
    with pytest.raises(InputError, match="known boards: zc706, zc706_40us"):
        board_file.read("zc707")
