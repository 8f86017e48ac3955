"""A recording against another board: its writes are sent, what is read is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from firmware_bridge import registers
from firmware_bridge.opening import register
from firmware_bridge.recording import Recording
from firmware_bridge.traffic import READ, RESTORE, Access, Words, folded, place
from rram_host.errors import InputError, LinkError
from rram_host.transports.base import Transport
from rram_host.transports.replay import check_contract

_PROGRAM_LIMIT_S = 60.0
_LOOK_S = 1e-3


@dataclass(frozen=True)
class Repeated:
    """What came of it.

    Attributes:
        transactions: that were repeated.
        difference: the first read that differs; empty where none does.
    """

    transactions: int
    difference: str = ""


def repeat(
    recording: Recording,
    link: Transport,
    ignore: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Repeated:
    """Send all writes of a recording to a board, and compare its reads, up to the first difference.

    Only for emulated boards: nobody looks at what the recording does to a chip.

    Args:
        recording: of any board.
        link: to the board.
        ignore: names of registers and memories whose words may differ.
        progress: told of the transactions done, now and then.

    Raises:
        InputError: no such register; a recording in which a transaction failed or the board was put
            back to a snapshot, because what the board held then is not known.
        ContractError: made for another contract.
        LinkError: the board does not end a program.
    """
    check_contract(recording)
    _check_names(ignore)
    done = 0
    for access in folded(iter(recording)):
        _check_known(recording, access)
        if access.kind == READ:
            difference = _compared(access, _read(link, access), ignore)
            if difference:
                return Repeated(done, f"transaction {access.number}: {difference}")
        else:
            link.write(access.address, access.words)
        done += 1
        if progress is not None and done % 100 == 0:
            progress(done)
    return Repeated(done)


def _check_names(names: Collection[str]) -> None:
    known = {*registers.BY_NAME, *(memory.name for memory in registers.MEMORIES)}
    strange = sorted(set(names) - known)
    if strange:
        raise InputError(f"there is no register {strange[0]}; known: {', '.join(sorted(known))}")


def _check_known(recording: Recording, access: Access) -> None:
    where = f"{recording.path}: at transaction {access.number}"
    if access.kind == RESTORE:
        raise InputError(f"{where} the board was put back to a snapshot, which is not recorded")
    if access.error:
        raise InputError(
            f"{where} the link failed ({access.error}): whether the board did it is not known"
        )


def _read(link: Transport, access: Access) -> Words:
    """What the board says now; of a poll that ended, what it says when its program has ended."""
    limit_s = time.monotonic() + _PROGRAM_LIMIT_S
    while True:
        words = link.read(access.address, access.count)
        if not access.poll or _busy(access.words) or not _busy(words):
            return words
        if time.monotonic() > limit_s:
            raise LinkError(
                f"the board has not ended its program {_PROGRAM_LIMIT_S:.0f} s after transaction "
                f"{access.number} of the recording"
            )
        link.write(*register("KICK", 0))
        time.sleep(_LOOK_S)


def _busy(words: Words) -> bool:
    return bool(int(words[0]) & registers.STATUS_BUSY)


def _compared(access: Access, words: Words, ignore: Collection[str]) -> str:
    """First word that differs and counts; empty where none does."""
    for index in np.flatnonzero(access.words != words):
        name = place(access.address + 4 * int(index))
        if name.partition("[")[0] not in ignore:
            there, here = int(access.words[index]), int(words[index])
            return f"{name} was {there:#010x} in the recording, is {here:#010x} here"
    return ""
