"""Everything that reads bytes from outside, as functions of bytes, with valid traffic to mutate.

A target may refuse its input with an `RramError` and nothing else, and holds no more than it says.
"""

import contextlib
import itertools
import json
import struct
import tempfile
from pathlib import Path

import numpy as np

from firmware_bridge import assembly, board_file, board_spec, microcode, registers
from firmware_bridge.agent import Agent
from firmware_bridge.auth import Gate
from firmware_bridge.client import Client
from firmware_bridge.cobs import cobs_decode, cobs_encode
from firmware_bridge.errors import RramError
from firmware_bridge.frames import MAX_ENCODED, Frame, FrameDecoder, Kind, encode
from firmware_bridge.hislip import HislipServer
from firmware_bridge.hislip.locks import Locks
from firmware_bridge.hislip.messages import HEADER, Channel, FatalError
from firmware_bridge.hislip.messages import Kind as Hislip
from firmware_bridge.hislip.session import Session
from firmware_bridge.microcode import Instruction, Op
from firmware_bridge.recording import Recorder, Recording
from firmware_bridge.text import scpi

STATUS, SCRATCH = registers.offset("STATUS"), registers.offset("SCRATCH")
KEY = bytes(range(32))


class Willing:
    """A window in which every program is done at once, so that nothing waits for it."""

    def __init__(self):
        self._words = np.zeros(registers.WINDOW_BYTES // 4, dtype=np.uint32)

    def read(self, address, count):
        self._words[STATUS // 4] = registers.STATUS_DONE
        return self._words[address // 4 : address // 4 + count].copy()

    def write(self, address, words):
        self._words[address // 4 : address // 4 + words.size] = words


WINDOW = Willing()


def an_agent():
    """One whose sessions begin with request 1, as those of the traffic below."""
    return Agent(WINDOW, draw_first=lambda: 1)


def pieces(data):
    """Input in pieces, which its first byte draws."""
    if not data:
        return []
    rng, rest = data[0], data[1:]
    size = (len(rest) or 1) if rng < 128 else 1 + rng % 64
    return [rest[at : at + size] for at in range(0, len(rest), size)]


# ---- targets --------------------------------------------------------------------------------


def cobs(data):
    if cobs_decode(cobs_encode(data)) != data:
        raise AssertionError("COBS changes what it carries")
    cobs_decode(data)


def decoder(data):
    found = FrameDecoder()
    for piece in pieces(data):
        found.feed(piece)
        if len(found._partial) > MAX_ENCODED:
            raise AssertionError(f"the decoder holds {len(found._partial)} bytes")


def _feed(client, data):
    for piece in pieces(data):
        answers = client.feed(piece)
        if sum(map(len, answers)) > 1 << 24:
            raise AssertionError("answers without end")
    held = len(client._demux._text) + len(client._demux._decoder._partial)
    client.close()
    if held > MAX_ENCODED + scpi.MAX_MESSAGE_BYTES + len(data):
        raise AssertionError(f"the client holds {held} bytes")


def client(data):
    _feed(Client(an_agent(), "fuzz"), data)


def client_with_key(data):
    _feed(Client(an_agent(), "fuzz", KEY), data)


def messages(data):
    buffer = bytearray()
    for piece in pieces(data):
        buffer += piece
        while (message := scpi.take_message(buffer)) is not None:
            list(scpi.split(message, ";"))
        scpi.missing(buffer)


class _Socket:
    """Bytes that came, and a far end that takes everything."""

    def __init__(self, data):
        self._pieces = pieces(data)

    def recv(self, most):
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > most:
            self._pieces.insert(0, piece[most:])
        return piece[:most]

    def send(self, data):
        return len(data)

    def settimeout(self, _):
        pass

    def setsockopt(self, *_):
        pass

    shutdown = settimeout

    def close(self):
        pass


SERVER = HislipServer(an_agent(), port=0)
SERVER._listener.close()  # connections are made up here


def hislip(data):
    SERVER._serve(Channel(_Socket(data)), ("fuzz", 0))


def hislip_session(data):
    """Both channels are there; the input is the first, or by its last bit the second."""
    channel, news = Channel(_Socket(data)), Channel(_Socket(data))
    session = Session(1, Client(an_agent(), "fuzz"), channel, 0, Locks())
    session.news = news
    with contextlib.suppress(FatalError):
        session.serve_news(news) if data[-1:] > b"\x7f" else session.serve_data()


def board(data):
    text = data.decode(errors="replace")
    try:
        raw = json.loads(text)
    except ValueError:
        return
    if isinstance(raw, dict):
        board_spec.from_mapping(raw)


FOLDER = tempfile.TemporaryDirectory()
_FILE = Path(FOLDER.name) / "input"


def board_text(data):
    _FILE.with_suffix(".toml").write_bytes(data)
    board_spec.load(_FILE.with_suffix(".toml"))


def recording(data):
    _FILE.write_bytes(data)
    for _ in Recording(_FILE):
        pass


def assembler(data):
    assembly.assemble(data.decode(errors="replace"))


def program(data):
    words = np.frombuffer(data[: len(data) // 4 * 4], dtype="<u4")
    microcode.total_cycles(microcode.decode(words.tolist()))


def proof(data):
    gate = Gate(KEY)
    gate.try_frames(data[:32], 1)
    gate.try_text(data.decode("latin-1"))


# ---- valid traffic --------------------------------------------------------------------------


def frames_of_a_session():
    first = 1
    some = [
        Frame(Kind.READ, 7, 0, 0, 0),
        Frame(Kind.WRITE, 7, first, SCRATCH, 1, bytes(4)),
        Frame(Kind.READ, 7, first + 1, 0, 16),
        Frame(Kind.WRITE, 7, first + 2, registers.PROGRAM.offset, 64, bytes(range(256))),
        Frame(Kind.AUTH, 7, 0, 0, 8, bytes(32)),
        Frame(Kind.REPLY, 7, 1, 0, 0),
        Frame(Kind.READ, 7, 0, 0, 0, version=9),
        Frame(Kind.WRITE, 7, first + 3, SCRATCH, 64, bytes(range(256)), bulk=True),
    ]
    return [encode(frame) for frame in some]


TEXT = [
    b"*IDN?\n",
    b"*RST;*CLS;*OPC?\n",
    b"SYST:ERR?;:SYSTem:ERRor:COUNt?;VERS?\n",
    b"*ESE 255;*SRE #HFF;*STB?;*ESR?\n",
    b"REG? STATUS,4\n",
    b"REGister 0x50,#18\x01\x00\x00\x00\n\x00\x00\x00\n",
    b"REG SCRATCH,1e3;REG? SCRATCH\n",
    b"FORMat:CRC ON;REG? #H50,2;FORM:CRC OFF\n",
    b"PROG:LOAD #14\x00\x00\x00\x00;PROG:TABL #14\x01\x02\x03\x04;RUN;STAT?;RES?\n",
    b"READ? 1,2\n",
    b"VMM? #14\x00\x00\x00\x00,1\n",
    b"SAFE;SYST:HELP?;\"a;b\",'c'\n",
    b"SYST:AUTH?;AUTH " + b"0" * 64 + b"\n",
]


def _hislip(kind, control=0, parameter=0, payload=b""):
    return HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload


HISLIP = [
    _hislip(Hislip.INITIALIZE, 0, 0x01007878, b"hislip0"),
    _hislip(Hislip.ASYNC_INITIALIZE, 0, 1),
    _hislip(Hislip.ASYNC_MAX_MSG_SIZE, 0, 0, struct.pack("!Q", 1 << 20)),
    _hislip(Hislip.DATA_END, 0, 0xFFFFFF00, TEXT[0]),
    _hislip(Hislip.DATA, 0, 0xFFFFFF02, frames_of_a_session()[0]),
    _hislip(Hislip.DEVICE_CLEAR_COMPLETE),
    _hislip(Hislip.ASYNC_DEVICE_CLEAR),
    _hislip(Hislip.ASYNC_STATUS_QUERY, 1, 0xFFFFFF00),
    _hislip(Hislip.ASYNC_LOCK, 1, 0, b"key"),
    _hislip(Hislip.ASYNC_LOCK_INFO),
    _hislip(Hislip.TRIGGER, 0, 2),
    _hislip(Hislip.INTERRUPTED, 0, 2),
]


def a_recording():
    path = Path(FOLDER.name) / "seed.jsonl"
    recorder = Recorder(WINDOW, path)
    recorder.write(SCRATCH, np.array([1, 2], dtype=np.uint32))
    recorder.read(0, 4)
    recorder.write(registers.TABLE.offset, np.arange(200, dtype=np.uint32))
    recorder.close()
    return path.read_bytes()


def a_program():
    items = [
        Instruction(Op.LOOP, 0, 0, 3),
        Instruction(Op.DAC, 8, 3, 100),
        Instruction(Op.PULSE, 0, 0, 50),
        Instruction(Op.NEXT, 0, 0, 1),
        Instruction(Op.SHIFT, 0, 0, 16, (5,)),
        Instruction(Op.END),
    ]
    return microcode.encode(items)


FRAMES = frames_of_a_session()
SESSION = b"".join(FRAMES)
PROGRAM = a_program()
SCHOOL = [
    b"\x05" + text for text in (*TEXT, *FRAMES, SESSION, SESSION + TEXT[0], TEXT[5] + FRAMES[0])
]
BOARD = Path(board_file.BOARDS / "zc706.toml").read_bytes()

# Name: the target, and what valid input looks like.
TARGETS = {
    "cobs": (cobs, [cobs_encode(SESSION), cobs_encode(bytes(600)), bytes([1]) * 600]),
    "decoder": (decoder, SCHOOL),
    "client": (client, SCHOOL),
    "client_with_key": (client_with_key, SCHOOL),
    "messages": (messages, [b"\x85" + text for text in TEXT]),
    "hislip": (hislip, [b"\x05" + HISLIP[0] + item for item in HISLIP]),
    "hislip_session": (
        hislip_session,
        [b"\x05" + a + b + end for a, b in itertools.pairwise(HISLIP) for end in (b"", b"\xff")],
    ),
    "board": (board, [board_file.as_json("zc706").encode()]),
    "board_text": (board_text, [BOARD]),
    "recording": (recording, [a_recording()]),
    "assembler": (assembler, [microcode.disassemble(PROGRAM).encode()]),
    "program": (program, [PROGRAM.tobytes()]),
    "proof": (proof, [bytes(32), b"0" * 64]),
}


def run(name, data):
    """One input; anything but a refusal goes through."""
    with contextlib.suppress(RramError):
        TARGETS[name][0](data)


# ---- mutation -------------------------------------------------------------------------------

NUMBERS = [0, 1, 3, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000]
WORDS = [
    b"#0",
    b"#9999999999",
    b"#14",
    b"\n",
    b";",
    b",",
    b'"',
    b"\0",
    b"\0\x03\x01",
    b"1e999",
    b":",
]


def mutated(rng, seeds):
    """One of the seeds with some of its bytes changed, inserted, removed or repeated."""
    data = bytearray(seeds[rng.randrange(len(seeds))])
    for _ in range(1 + int(rng.expovariate(0.7))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randrange(1, 65)] * rng.randrange(1, 4)
        elif kind == 5:
            data[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS))
        elif kind == 6:
            data[at:at] = rng.choice(WORDS)
        else:
            other = seeds[rng.randrange(len(seeds))]
            data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data[: 1 << 16])
