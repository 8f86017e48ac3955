"""`pynq` devices without silicon, for the real `pynq.MMIO` and the real `pynq.Overlay`.

No class has a `_probe_`, so pynq's registry of device classes never hears of them, and
nothing here touches `Device.active_device`: a device is handed over explicitly, always.
"""

import shutil
from pathlib import Path

import numpy as np
from pynq import Clocks
from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
from pynq.pl_server.device import Device
from pynqmetadata.frontends import Metadata

from firmware_bridge import registers
from firmware_bridge.overlay import handoff


class EmulatedDevice(Device):
    """Shows a register window at `base` through register calls (pynq's REGISTER_RW).

    Args:
        window: anything with read(address, count) and write(address, words), an emulated board
            for one.
        base: physical address that the window is said to lie at.
    """

    def __init__(self, window, base=registers.WINDOW_BASE):
        super().__init__("emulated")
        self.capabilities = {"REGISTER_RW": True}
        self._window, self._base = window, base

    def read_registers(self, address, length):
        """Bytes of `length` from physical `address` on."""
        words = self._window.read(address - self._base, length // 4)
        return np.asarray(words, dtype="<u4").tobytes()

    def write_registers(self, address, data):
        """Write bytes from physical `address` on."""
        words = np.frombuffer(bytes(data), dtype="<u4").astype(np.uint32)
        self._window.write(address - self._base, words)


class MappedDevice(Device):
    """Shows words at `base` as memory (pynq's MEMORY_MAPPED, what a real Zynq offers)."""

    def __init__(self, words, base=registers.WINDOW_BASE):
        super().__init__("mapped")
        self.capabilities = {"MEMORY_MAPPED": True}
        self._words, self._base = words, base

    def mmap(self, base_addr, length):
        """A view of the words from physical `base_addr` on."""
        start = (base_addr - self._base) // 4
        return self._words[start : start + length // 4]


SLCR_BASE, SLCR_BYTES = 0xF8000000, 0x200
IO_PLL_CTRL, FPGA0_CLK_CTRL = 0x108, 0x170


class _Zynq:
    """What `pynq.Overlay` needs beside a register window: metadata, downloads, the clock registers.

    The handoff file is read by pynq's own parser. Downloads are only noted. The clock registers
    (SLCR) are words of this object, with the I/O PLL at 30 times the PS clock, as on the ZC706.
    """

    arch = "armv7l"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.name, self.timestamp, self.bitfile_name = "emulated", "", ""
        self.downloads = []
        self.slcr = np.zeros(SLCR_BYTES // 4, np.uint32)
        self.slcr[[0x100 // 4, 0x104 // 4, IO_PLL_CTRL // 4]] = 30 << 12
        if "_real_instance" in vars(Clocks):  # pynq keeps the clocks of the first device for good
            del Clocks._real_instance

    def get_bitfile_metadata(self, bitfile_name, partial=False):
        """The handoff file beside the bitstream, read as on the board."""
        return RuntimeMetadataParser(Metadata(input=Path(bitfile_name).with_suffix(".hwh")))

    def download(self, bitstream, parser=None):
        """Note what would be loaded."""
        self.downloads.append(bitstream.bitfile_name)
        self.post_download(bitstream, parser, self.name)

    def _clock_words(self, address, length):
        """A view of clock registers; None where the address is another one."""
        if not SLCR_BASE <= address < SLCR_BASE + SLCR_BYTES:
            return None
        start = (address - SLCR_BASE) // 4
        return self.slcr[start : start + length // 4]


class ZynqDevice(_Zynq, EmulatedDevice):
    """A Zynq whose registers are reached by calls, an emulated board behind them for one."""

    def read_registers(self, address, length):
        """Clock registers, or the window."""
        clocks = self._clock_words(address, length)
        return super().read_registers(address, length) if clocks is None else clocks.tobytes()

    def write_registers(self, address, data):
        """The same, the other way."""
        clocks = self._clock_words(address, len(data))
        if clocks is None:
            super().write_registers(address, data)
        else:
            clocks[:] = np.frombuffer(bytes(data), np.uint32)


class MappedZynqDevice(_Zynq, MappedDevice):
    """A Zynq whose registers are memory, as on the board."""

    def mmap(self, base_addr, length):
        """Clock registers, or words of the window."""
        clocks = self._clock_words(base_addr, length)
        return super().mmap(base_addr, length) if clocks is None else clocks


def overlay_files(folder):
    """The handoff file with an empty bitstream beside it; returns the path of the latter."""
    shutil.copy(handoff.PATH, folder / "rram.hwh")
    (folder / "rram.bit").write_bytes(b"")
    return folder / "rram.bit"
