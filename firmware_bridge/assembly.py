"""Assembler text to a program: the inverse of `microcode.disassemble`.

One instruction a line, as `disassemble` prints it: an operation, then its fields by name, or its
one number. `#` begins a comment. A word index at the beginning of a line, as listings have it, is
checked. Numbers are decimal, or 0x... . END closes the program.

>>> from firmware_bridge.microcode import disassemble
>>> words = assemble('''
... LOOP 3                                 # three turns
...   DACT addr=0x8 chips=0x03 table=0x0000
... NEXT 2
... END
... ''')
>>> print(disassemble(words))
    0  LOOP  3
    1    DACT  addr=0x8 chips=0x03 table=0x0000
    2  NEXT  2
    3  END
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Instruction, Op, decode, encode

# Names of the fields of an operation, in order, and the part of the instruction that each is.
_FIELDS: dict[Op, dict[str, str]] = {
    Op.DAC: {"addr": "addr", "chips": "mask", "data": "value"},
    Op.DACT: {"addr": "addr", "chips": "mask", "table": "value"},
    Op.DREAD: {"addr": "addr", "chips": "mask"},
    Op.SHIFT: {"bits": "value"},
    Op.LINES: {"enable": "enable", "range": "range", "oe": "oe"},
}
_LINES_TOPS = {"enable": 1, "range": 3, "oe": 1}


def assemble(text: str) -> npt.NDArray[np.uint32]:
    """Words of a program in assembler text.

    Raises:
        InputError: names the line and what is wrong with it; or the program as a whole is none.
    """
    program: list[Instruction] = []
    place = 0
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.partition("#")[0].split()
        if not parts:
            continue
        try:
            item = _instruction(_without_index(parts, place))
        except InputError as error:
            raise InputError(f"line {number}: {error}: {line.strip()}") from None
        program.append(item)
        place += len(item.encode())
    words = encode(program)
    decode(words.tolist())
    return words


def _without_index(parts: list[str], place: int) -> list[str]:
    """The rest of a line that may begin with its word index."""
    if not parts[0].isdecimal():
        return parts
    if int(parts[0]) != place:
        raise InputError(f"word index {parts[0]} where word {place} is")
    return parts[1:]


def _instruction(parts: list[str]) -> Instruction:
    name = parts[0].upper() if parts else ""
    if name not in Op.__members__:
        raise InputError(f"no operation {name or 'at all'}; known: {', '.join(Op.__members__)}")
    op, rest = Op[name], parts[1:]
    if op is Op.END:
        return _end(rest)
    if op in _FIELDS:
        return _with_fields(op, rest)
    if len(rest) != 1:
        raise InputError(f"{name} takes one number")
    return Instruction(op, value=_number(rest[0]))


def _end(rest: list[str]) -> Instruction:
    if rest:
        raise InputError("END takes nothing")
    return Instruction(Op.END)


def _with_fields(op: Op, rest: list[str]) -> Instruction:
    names = _FIELDS[op]
    given, data = rest[: len(names)], tuple(_number(word) for word in rest[len(names) :])
    found = dict(part.partition("=")[::2] for part in given)
    if list(found) != list(names):
        wanted = " ".join(f"{name}=..." for name in names)
        raise InputError(f"{op.name} takes {wanted}{' and words' if op is Op.SHIFT else ''}")
    values = {names[name]: _number(value) for name, value in found.items()}
    if op is Op.LINES:
        values = {"value": _lines_value(values)}
    if data and op is not Op.SHIFT:
        raise InputError(f"{op.name}: {rest[len(names)]} is one field too many")
    return Instruction(op, data=data, **values)


def _lines_value(values: dict[str, int]) -> int:
    for name, top in _LINES_TOPS.items():
        if values[name] > top:
            raise InputError(f"LINES: {name} {values[name]} is outside 0..{top}")
    return values["enable"] | values["range"] << 1 | values["oe"] << 3


def _number(text: str) -> int:
    """A number of at most 32 bits, decimal or 0x."""
    try:
        value = int(text, 16 if text[:2].lower() == "0x" else 10)
    except ValueError:
        raise InputError(f"{text!r} is not a number") from None
    if not 0 <= value < 1 << 32:
        raise InputError(f"{text} does not fit into 32 bits")
    return value
