"""Keys: their files, and proofs of them over frames and text."""

import hashlib
import hmac
import stat

import numpy as np
import pytest

from firmware_bridge import auth, registers
from firmware_bridge.agent import Agent
from firmware_bridge.auth import MAX_FAILURES, load_key, make_key, text_digest
from firmware_bridge.client import MAX_PROVED, TEXT_IDLE_S, Client
from firmware_bridge.errors import InputError
from firmware_bridge.frames import ErrorCode, Frame, Kind, decode, encode
from rram_host.errors import LinkError
from rram_host.transports.framed import FramedTransport, LinkSettings
from tests.doubles import MemoryWindow
from tests.lossy import LossyLine

KEY = b"0123456789abcdef0123456789abcdef"
SCRATCH = registers.offset("SCRATCH")


class Guarded:
    """A client of a bridge with a key, and a clock to turn."""

    def __init__(self, key=KEY):
        self.now_s, self.window = 0.0, MemoryWindow()
        agent = Agent(self.window, draw_first=lambda: 1)
        self.client = Client(agent, "somebody", key, clock=lambda: self.now_s)

    def ask(self, frame):
        (answer,) = self.client.feed(encode(frame))
        return decode(answer[1:-1])

    def text(self, line):
        return b"".join(self.client.feed(line.encode() + b"\n")).decode().strip()

    def nonce(self, session=7):
        code, text = self.ask(hello(session)).reason()
        assert code == ErrorCode.AUTH and text.startswith("challenge ")
        return bytes.fromhex(text.removeprefix("challenge "))

    def errors(self):
        return self.text("SYST:ERR?")


def hello(session=7):
    return Frame(Kind.READ, session, 0, 0, 0)


def proof(nonce, session=7, key=KEY, about=b"frames"):
    """By the definition in the README, not by our function."""
    message = about + nonce + session.to_bytes(4, "little")
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return Frame(Kind.AUTH, session, 0, 0, 8, digest)


def text_proof(nonce_hex, key=KEY):
    return hmac.new(key, b"text" + bytes.fromhex(nonce_hex), hashlib.sha256).hexdigest()


# ---- files ----------------------------------------------------------------------------------


def test_a_fresh_key_is_for_its_owner_alone(tmp_path):
    for name in ("one", "two"):
        make_key(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert len(load_key(tmp_path / "one")) == 64
    assert load_key(tmp_path / "one") != load_key(tmp_path / "two")
    with pytest.raises(InputError, match="exists"):
        make_key(tmp_path / "one")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602, 0o610])
def test_a_key_that_others_may_see_or_change_is_refused(tmp_path, mode):
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(mode)
    with pytest.raises(InputError, match="chmod 600"):
        load_key(path)


@pytest.mark.parametrize("content", [b"", KEY[1:], b" " * 40 + KEY[1:] + b"\n", b"k" * 5000])
def test_keys_have_a_least_and_a_largest_size(tmp_path, content):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(InputError, match="32 to 4096"):
        load_key(path)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(InputError, match="nokey"):
        load_key(tmp_path / "nokey")
    with pytest.raises(InputError, match=r"regular|directory"):
        load_key(tmp_path)


# ---- frames ---------------------------------------------------------------------------------


def test_nothing_is_done_before_the_key_is_proved():
    here = Guarded()
    write = Frame(Kind.WRITE, 7, 1, SCRATCH, 1, bytes(4))
    safe = Frame(Kind.WRITE, 7, 1, registers.offset("CTRL"), 1, b"\x02\0\0\0")
    for frame in (hello(), write, safe, Frame(Kind.READ, 7, 1, 0, 1)):
        assert here.ask(frame).reason()[0] == ErrorCode.AUTH
    assert here.window.writes == [] and here.client.heard_s is None
    assert here.ask(proof(here.nonce())).kind is Kind.REPLY
    assert here.ask(hello()).kind is Kind.REPLY
    assert here.ask(write).kind is Kind.REPLY
    assert here.client.heard_s is not None


def test_a_proof_that_comes_twice_is_taken_twice():
    here = Guarded()
    sent = proof(here.nonce())
    assert [here.ask(sent).kind for _ in range(5)] == [Kind.REPLY] * 5
    assert not here.client.refused


def test_a_proof_is_good_for_one_session_and_one_nonce():
    here = Guarded()
    nonce = here.nonce()
    assert here.ask(proof(nonce)).kind is Kind.REPLY
    assert here.nonce(8) != nonce
    overheard = Frame(Kind.AUTH, 8, 0, 0, 8, proof(nonce).payload)
    assert here.ask(overheard).reason()[0] == ErrorCode.AUTH
    assert Guarded().nonce() != Guarded().nonce()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda nonce: proof(nonce, key=b"x" * 32),
        lambda nonce: proof(nonce, about=b"text"),
        lambda nonce: proof(bytes(32)),
        lambda nonce: Frame(Kind.AUTH, 7, 0, 0, 0),
        lambda nonce: Frame(Kind.AUTH, 7, 0, 0, 7, proof(nonce).payload[:28]),
        lambda nonce: Frame(Kind.AUTH, 7, 0, 0, 9, proof(nonce).payload + bytes(4)),
    ],
)
def test_wrong_proofs_are_refused_and_the_third_ends_it(wrong):
    here = Guarded()
    for _ in range(MAX_FAILURES):
        assert not here.client.refused
        assert here.ask(wrong(here.nonce())).reason()[0] == ErrorCode.AUTH
    assert here.client.refused
    assert here.client.feed(encode(hello()) + b"*IDN?\n") == []


def test_on_a_line_that_hosts_share_each_proves_its_own_session():
    here = Guarded()
    for session in range(MAX_PROVED + 1):
        assert here.ask(proof(here.nonce(session), session)).kind is Kind.REPLY
    assert here.ask(hello(0)).reason()[0] == ErrorCode.AUTH, "the oldest is forgotten"
    assert here.ask(hello(MAX_PROVED)).kind is Kind.REPLY


@pytest.mark.parametrize("seed", range(8))
def test_a_host_signs_on_over_a_line_that_damages_a_fifth_of_all(seed):
    line = LossyLine(None, np.random.default_rng(seed), 0.2)
    window = MemoryWindow()
    line.far = Client(Agent(window), "somebody", KEY, clock=line.clock)
    settings = LinkSettings(timeout_s=300, connect_s=300)
    host = FramedTransport(line, "line", settings, line.clock, key=KEY)
    for value in range(20):
        host.write(SCRATCH, np.array([value], dtype=np.uint32))
        assert host.read(SCRATCH, 1)[0] == value
    assert [words for _, words in window.writes] == [[value] for value in range(20)]
    assert line.hits > 0


def test_hosts_say_which_key_is_wrong():
    line = LossyLine(None, np.random.default_rng(0))
    line.far = Client(Agent(MemoryWindow()), "somebody", KEY)
    for key, word in ((None, "demands a key"), (b"x" * 32, "does not take this key")):
        host = FramedTransport(line, "line", clock=line.clock, key=key)
        with pytest.raises(InputError, match=word):
            host.connect()


def test_a_host_that_was_forgotten_signs_on_again():
    """Other hosts have used the line meanwhile."""
    line = LossyLine(None, np.random.default_rng(0))
    line.far = here = Client(Agent(MemoryWindow()), "somebody", KEY)
    host = FramedTransport(line, "line", clock=line.clock, key=KEY)
    host.connect()
    for session in range(MAX_PROVED):
        (answer,) = here.feed(encode(hello(session)))
        nonce = bytes.fromhex(decode(answer[1:-1]).reason()[1].split()[1])
        here.feed(encode(proof(nonce, session)))
    with pytest.raises(LinkError, match="key once more"):
        host.read(SCRATCH, 1)
    assert host.read(SCRATCH, 1)[0] == 0


def test_a_bridge_without_a_key_takes_any_proof():
    here = Guarded(key=None)
    assert here.ask(proof(bytes(32))).kind is Kind.REPLY
    assert here.ask(hello()).kind is Kind.REPLY


# ---- text -----------------------------------------------------------------------------------


def test_text_is_protected_but_for_what_signs_on():
    here = Guarded()
    assert here.text("*IDN?").startswith("RRAM,zc706,")
    for command in ("REG SCRATCH,1", "REG? SCRATCH", "*RST", "SAFE", "SYST:HELP?"):
        assert here.text(command) == ""
        assert here.errors().startswith('-203,"Command protected')
    assert here.window.writes == []
    digest = text_proof(here.text("SYST:AUTH?"))
    here.text(f'SYSTem:AUTH "{digest}"')
    assert here.errors().startswith("0,")
    assert here.text("REG? SCRATCH") != ""


@pytest.mark.parametrize("first", ["0", "12ae", "7e", "a", "f0"])
def test_a_digest_without_quotes_may_begin_with_anything(first, monkeypatch):
    here, seen = Guarded(), []
    monkeypatch.setattr(auth.Gate, "try_text", lambda gate, digest: seen.append(digest) or True)
    digest = first + "0" * (64 - len(first))
    here.text(f"SYST:AUTH {digest}")
    assert seen == [digest]


def test_wrong_digests_are_refused_and_the_third_ends_it():
    here = Guarded()
    for digest in (text_proof(here.text("SYST:AUTH?"), b"x" * 32), "zz", text_proof("00" * 32)):
        here.text(f'SYST:AUTH "{digest}"')
    assert here.client.refused and here.text("*IDN?") == ""


def test_text_proves_nothing_for_frames_and_frames_nothing_for_text():
    here = Guarded()
    here.text(f'SYST:AUTH "{text_proof(here.text("SYST:AUTH?"))}"')
    assert here.ask(hello()).reason()[0] == ErrorCode.AUTH
    here = Guarded()
    here.ask(proof(here.nonce()))
    here.text("REG? SCRATCH")
    assert here.errors().startswith("-203")


def test_whoever_comes_to_the_terminal_later_must_sign_on_anew():
    here = Guarded()
    here.text(f'SYST:AUTH "{text_proof(here.text("SYST:AUTH?"))}"')
    here.now_s += 0.9 * TEXT_IDLE_S
    assert here.text("REG? SCRATCH")
    here.now_s += 1.1 * TEXT_IDLE_S
    assert here.text("REG? SCRATCH") == ""
    assert here.errors().startswith("-203")


def test_a_client_that_waits_long_for_its_answer_is_not_silent():
    now_s = [0.0]

    class Slow(MemoryWindow):
        def read(self, address, count):
            now_s[0] += 1.1 * TEXT_IDLE_S
            return super().read(address, count)

    key = bytes(range(32))
    client = Client(Agent(Slow()), "a line", key, lambda: now_s[0])

    def ask(text):
        return b"".join(client.feed(text, end=True))

    nonce = bytes.fromhex(ask(b"SYST:AUTH?").decode())
    ask(b"SYST:AUTH " + text_digest(key, nonce).hex().encode())
    assert [ask(b"REG? SCRATCH") for _ in range(2)] == [b"0\n", b"0\n"]
