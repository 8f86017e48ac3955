"""A board behind an agent with text clients of it, and access without an agent."""

import numpy as np

from firmware_bridge.agent import Agent
from firmware_bridge.client import Client


class Bench:
    """A board behind an agent, and text clients of it."""

    def __init__(self, board, key=None):
        self.board, self.agent, self.key = board, Agent(board), key
        self.clients = []

    def client(self, name="test"):
        client = Client(self.agent, name, self.key)
        self.clients.append(client)

        def ask(*parts):
            line = b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
            return b"".join(client.feed(line, end=True))

        return ask

    def close(self):
        for client in self.clients:
            client.close()


def errors(ask):
    found = []
    while not (line := ask("SYST:ERR?").decode()).startswith("0,"):
        found.append(line.strip())
    return found


def unblock(answer, dtype):
    assert answer[:1] == b"#" and answer[-1:] == b"\n"
    start = 2 + int(answer[1:2])
    data = answer[start:-1]
    assert len(data) == int(answer[2:start])
    return np.frombuffer(data, dtype)


class DirectAccess:
    """Access without an agent."""

    authorised, identity = True, "a,b,c,d"

    def __init__(self, board):
        self.board, self.spec = board, board.spec

    def read(self, address, count):
        return self.board.read(address, count)

    def write(self, address, words):
        self.board.write(address, words)

    def challenge(self):
        return "00"

    def authorise(self, digest_hex):
        return True
