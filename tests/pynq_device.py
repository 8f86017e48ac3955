"""`pynq` devices without silicon, for the real `pynq.MMIO`.

Neither class has a `_probe_`, so pynq's registry of device classes never hears of them, and
nothing here touches `Device.active_device`: a device is handed over explicitly, always.
"""

import numpy as np
from pynq.pl_server.device import Device

from firmware_bridge import registers


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
