"""Plain sockets to a bridge on this machine, and waiting for what will come."""

import socket
import time
from contextlib import contextmanager

LIMIT_S = 30


@contextmanager
def connected(port):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
        yield client


def line_of(client):
    data = b""
    while not data.endswith(b"\n"):
        piece = client.recv(4096)
        if not piece:
            break
        data += piece
    return data


def ask_text(port, message):
    with connected(port) as client:
        client.sendall(message)
        return line_of(client)


def eventually(condition):
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
