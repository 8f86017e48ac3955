"""One DAC80508 at SPI-word level (Texas Instruments SLASEL1D)."""

from __future__ import annotations

from firmware_bridge.chips import dac80508 as facts


class Dac80508:
    """A Z part: powers up at zero scale, reference on, all channels on.

    Attributes:
        buffer, active: codes of the eight channels before and behind the LDAC latch.
        updates: counts events that may have moved an output.
    """

    def __init__(self) -> None:
        self.updates = 0
        self._reset()

    def _reset(self) -> None:
        self.buffer = [0] * facts.N_CHANNELS
        self.active = [0] * facts.N_CHANNELS
        self.sync = facts.SYNC_RESET
        self.config = 0
        self.gain = 0
        self.broadcast = 0
        self._reply = 0
        self.updates += 1

    def transfer(self, word: int, n_clocks: int = 24) -> int:
        """One CS-low frame of `n_clocks` falling edges; returns what SDO sent in it.

        Fewer than 24 clocks are ignored; of more, the last 24 count. Reads answer in the next
        frame with the echoed R/W bit and address.
        """
        if n_clocks < 24:
            return 0
        word &= 0xFF_FFFF
        reply, self._reply = self._reply, 0
        addr, data = word >> 16 & 0xF, word & 0xFFFF
        if word >> 23:
            self._reply = facts.read_frame(addr) | self._read(addr)
        else:
            self._write(addr, data)
        return reply

    def _read(self, addr: int) -> int:
        if addr >= facts.DAC0:
            return self.buffer[addr - facts.DAC0]
        return {
            facts.DEVICE_ID: facts.DEVICE_ID_Z | 0b10,
            facts.SYNC: self.sync,
            facts.CONFIG: self.config,
            facts.GAIN: self.gain,
            facts.BRDCAST: self.broadcast,
        }.get(addr, 0)

    def _write(self, addr: int, data: int) -> None:
        if addr >= facts.DAC0:
            channel = addr - facts.DAC0
            self.buffer[channel] = data
            if not self.sync >> channel & 1:
                self.active[channel] = data
                self.updates += 1
        elif addr == facts.SYNC:
            self.sync = data
        elif addr == facts.CONFIG:
            self.config = data & 0x3FFF
        elif addr == facts.GAIN:
            self.gain = data & 0x07FF
            self.updates += 1
        elif addr == facts.TRIGGER:
            self._trigger(data)
        elif addr == facts.BRDCAST:
            self._broadcast(data)

    def _trigger(self, data: int) -> None:
        if data & 0xF == facts.TRIGGER_SOFT_RESET:
            self._reset()
        elif data & facts.TRIGGER_LDAC:
            for channel in range(facts.N_CHANNELS):
                if self.sync >> channel & 1:
                    self.active[channel] = self.buffer[channel]
            self.updates += 1

    def _broadcast(self, data: int) -> None:
        """Goes to the outputs at once, whatever the channel's synchronous mode."""
        self.broadcast = data
        for channel in range(facts.N_CHANNELS):
            if self.sync >> (8 + channel) & 1:
                self.buffer[channel] = self.active[channel] = data
        self.updates += 1

    def full_scale_v(self, channel: int, gain: int | None = None) -> float:
        """Full scale of a channel now, or under another GAIN word."""
        return facts.full_scale_v(self.gain if gain is None else gain, channel)
