"""A chip's passport: one file that says what is known of it and what was done to it."""

from rram_host.passport.document import Contents
from rram_host.passport.parts import ConductanceMap, DeadCell, Event, Forming, Limits
from rram_host.passport.passport import Passport
from rram_host.passport.recorder import Recorder
from rram_host.passport.snapshot import with_formed, without_formed

__all__ = [
    "ConductanceMap",
    "Contents",
    "DeadCell",
    "Event",
    "Forming",
    "Limits",
    "Passport",
    "Recorder",
    "with_formed",
    "without_formed",
]
