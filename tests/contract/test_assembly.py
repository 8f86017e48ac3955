"""Assembler text is the inverse of the disassembly, and says what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.assembly import assemble
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Instruction, Op, disassemble, encode

ADDRESSED = st.tuples(st.integers(0, 15), st.integers(0, 255), st.integers(0, 0xFFFF))
WIDE = st.integers(0, 0xFFF_FFFF)


@st.composite
def _shift(draw):
    bits = draw(st.integers(1, 1024))
    words = st.integers(0, 0xFFFF_FFFF)
    n = -(-bits // 32)
    return Instruction(
        Op.SHIFT, value=bits, data=tuple(draw(st.lists(words, min_size=n, max_size=n)))
    )


PLAIN = st.one_of(
    st.builds(lambda f: Instruction(Op.DAC, *f), ADDRESSED),
    st.builds(lambda f: Instruction(Op.DACT, *f), ADDRESSED),
    st.builds(lambda f: Instruction(Op.DREAD, f[0], f[1]), ADDRESSED),
    _shift(),
    st.builds(lambda v: Instruction(Op.LINES, value=v), st.integers(0, 15)),
    st.builds(lambda op, v: Instruction(op, value=v), st.sampled_from([Op.WAIT, Op.PULSE]), WIDE),
    st.builds(lambda op, v: Instruction(op, value=v), st.sampled_from([Op.PTR, Op.MARK]), WIDE),
    st.builds(lambda v: Instruction(Op.CONV, value=v), st.integers(0, 31)),
)


@st.composite
def _block(draw, depth=0):
    items = draw(st.lists(PLAIN, max_size=4))
    if depth < 4 and draw(st.booleans()):
        count = draw(st.integers(1, 0xFFF_FFFF))
        inside = draw(_block(depth + 1))
        items += [Instruction(Op.LOOP, value=count), *inside]
        items += [Instruction(Op.NEXT, value=draw(st.integers(0, 0xFFFF)))]
    return items


@given(_block())
def test_text_is_the_inverse_of_the_disassembly(items):
    words = encode([*items, Instruction(Op.END)])
    text = disassemble(words)
    again = assemble(text)
    assert again.dtype == np.uint32
    assert again.tolist() == words.tolist()
    without_indices = "\n".join(line[5:] for line in text.splitlines())
    assert assemble(without_indices).tolist() == words.tolist()


def test_a_program_as_a_person_writes_it():
    words = assemble(
        """
        # a comment, and an empty line

        dac  addr=5 chips=0xff data=16   # small letters, decimal numbers
        WAIT 0x64
        END
        """
    )
    assert [hex(word) for word in words.tolist()] == ["0x15ff0010", "0x60000064", "0x0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("JUMP 3\nEND", "line 1: no operation JUMP; known: END, DAC"),
        ("WAIT\nEND", "line 1: WAIT takes one number"),
        ("WAIT 1 2\nEND", "line 1: WAIT takes one number"),
        ("\nWAIT x\nEND", "line 2: 'x' is not a number"),
        ("WAIT -1\nEND", "does not fit into 32 bits"),
        ("WAIT 268435456\nEND", "line 1: WAIT: value 268435456 is outside 0..268435455"),
        ("DAC addr=1 data=2 chips=3\nEND", "DAC takes addr=... chips=... data=..."),
        ("DAC addr=16 chips=3 data=2\nEND", "address 16 is outside 0..15"),
        ("DAC addr=1 chips=3 data=2 7\nEND", "DAC: 7 is one field too many"),
        ("LINES enable=2 range=0 oe=1\nEND", "LINES: enable 2 is outside 0..1"),
        ("SHIFT bits=64 0x1\nEND", "SHIFT: 64 bits need 2 data words"),
        ("LOOP 0\nNEXT 0\nEND", "a loop runs at least once"),
        ("END 1", "END takes nothing"),
        ("WAIT 1", "a program ends with END"),
        ("", "a program ends with END"),
        ("LOOP 2\nEND", "END inside a loop"),
        ("    0  WAIT 1\n    2  END", "line 2: word index 2 where word 1 is"),
        ("0\nEND", "line 1: no operation at all"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, said):
    with pytest.raises(InputError) as error:
        assemble(text)
    assert said in str(error.value)
