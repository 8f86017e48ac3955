"""One DAC80508 at SPI-word level (Texas Instruments SLASEL1D)."""

from __future__ import annotations

from firmware_bridge.chips import dac80508 as facts
from firmware_bridge.errors import InputError

# With any of these set, a frame needs more than the plain 24-bit path.
_SPECIAL = facts.CONFIG_CRC_EN | facts.CONFIG_ALM_EN | facts.CONFIG_DSDO
_POWER = facts.CONFIG_REF_PWDWN | facts.CONFIG_PWDWN_ALL


class Dac80508:
    """The protocol of one part, without a clock: who sends the frames keeps the times.

    A Z part powers up at zero scale with gain 1, an M part at mid scale with gain 2; both with
    the reference and all channels on. Nothing is connected to the reference pin, so with the
    internal reference off the outputs are at 0 V.

    Args:
        variant: "Z" or "M".
        vdd_v: analog supply, V; the reference alarm depends on it.

    Attributes:
        buffer, active: codes of the eight channels before and behind the LDAC latch.
        sync, config, gain, broadcast: the registers of these names.
        pending: what the next frame will send on SDO.
        updates: counts events that may have moved an output.
        crc_error: the last frame of CRC mode failed its check.

    Raises:
        InputError: there is no such variant, or the part does not work at this supply.
    """

    def __init__(self, variant: str = "Z", vdd_v: float = 5.0) -> None:
        if variant not in ("Z", "M"):
            raise InputError(f"DAC80508: no variant {variant!r}; there are 'Z' and 'M'")
        if not facts.VDD_MIN_V <= vdd_v <= facts.VDD_MAX_V:
            raise InputError(f"DAC80508: VDD of {vdd_v} V; allowed are 2.7 to 5.5 V")
        self.variant, self.vdd_v = variant, vdd_v
        self.updates = 0
        self._reset()

    def _reset(self) -> None:
        """Power-on reset, which a soft reset is too."""
        code = facts.MID_SCALE if self.variant == "M" else 0
        self.buffer = [code] * facts.N_CHANNELS
        self.active = [code] * facts.N_CHANNELS
        self.sync = facts.SYNC_RESET
        self.config = 0
        self.gain = facts.GAIN_RESET_M if self.variant == "M" else facts.GAIN_RESET_Z
        self.broadcast = 0
        self.crc_error = False
        self.pending = 0
        self.updates += 1

    # ---- frames -----------------------------------------------------------------------------

    def transfer(self, word: int, n_clocks: int = facts.FRAME_BITS) -> int:
        """One CS-low frame of `n_clocks` falling edges; returns what SDO sent in it.

        Fewer than 24 clocks are ignored; of more, the last 24 count. Reads answer in the next
        frame with the echoed R/W bit and address. In CRC mode all of this holds for 32 clocks.

        Args:
            word: the bits on SDI, the one sent last in bit 0.
            n_clocks: falling edges of SCLK while CS is low.

        Returns:
            The 24 or 32 bits that SDO sends first; 0 where nothing was asked or SDO is tri-stated.
        """
        if self.config & _SPECIAL:
            return self._special_transfer(word, n_clocks)
        if n_clocks < facts.FRAME_BITS:
            return 0
        reply, self.pending = self.pending, 0
        self._execute(word & 0xFF_FFFF)
        return reply

    def _execute(self, frame: int) -> None:
        addr = frame >> 16 & 0xF
        if frame >> 23:
            self.pending = facts.read_frame(addr) | self._read(addr)
        else:
            self._write(addr, frame & 0xFFFF)

    def _special_transfer(self, word: int, n_clocks: int) -> int:
        crc_mode = bool(self.config & facts.CONFIG_CRC_EN)
        length = facts.CRC_FRAME_BITS if crc_mode else facts.FRAME_BITS
        if n_clocks < length:
            return 0
        reply = self._on_pin(self.pending, length)
        self.pending = 0
        word &= (1 << length) - 1
        if crc_mode:
            self._execute_checked(word)
        else:
            self._execute(word)
        return reply

    def _execute_checked(self, word: int) -> None:
        """A frame of CRC mode: the next one reports on it.

        A read is answered with the data; anything else with an echo of the frame, whose bit 30
        says whether the check failed. The echo is that of the sister DAC81416 (SLASEO0B).
        """
        frame = word >> 8
        self.crc_error = not facts.crc_holds(word)
        if not self.crc_error:
            self._execute(frame)
        if not self.config & facts.CONFIG_CRC_EN:
            return  # this very frame has left CRC mode
        flag = facts.CRC_ERROR_BIT >> 8
        echo = self.pending or frame & ~flag
        self.pending = facts.with_crc(echo | flag if self.crc_error else echo)

    def _on_pin(self, reply: int, length: int) -> int:
        """What a host reads at the SDO/ALARM pin instead of `reply`."""
        if self.config & facts.CONFIG_ALM_EN:
            # open drain with a pull-up: low for the whole frame while there is an alarm
            return 0 if self.alarm else (1 << length) - 1
        return 0 if self.config & facts.CONFIG_DSDO else reply

    # ---- registers --------------------------------------------------------------------------

    def _read(self, addr: int) -> int:
        """Register contents; a DAC register reads as its buffer, not as what is at the output."""
        if addr >= facts.DAC0:
            return self.buffer[addr - facts.DAC0]
        return {
            facts.DEVICE_ID: facts.DEVICE_ID_M if self.variant == "M" else facts.DEVICE_ID_Z,
            facts.SYNC: self.sync,
            facts.CONFIG: self.config,
            facts.GAIN: self.gain,
            facts.BRDCAST: self.broadcast,
            facts.STATUS: self.status,
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
            if (self.config ^ data) & _POWER:
                self.updates += 1
            self.config = data & facts.CONFIG_MASK
        elif addr == facts.GAIN:
            self.gain = data & facts.GAIN_MASK
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

    # ---- what registers mean ----------------------------------------------------------------

    @property
    def status(self) -> int:
        """The STATUS register."""
        return facts.STATUS_REF_ALM if self._reference_alarm() else 0

    @property
    def alarm(self) -> bool:
        """Whether the condition that ALM-SEL chooses for the alarm pin holds."""
        return self._reference_alarm() if self.config & facts.CONFIG_ALM_SEL else self.crc_error

    def _reference_alarm(self) -> bool:
        """A reference that is switched off cannot stand too close to VDD."""
        off = self.config & facts.CONFIG_REF_PWDWN
        return not off and facts.reference_alarm(self.gain, self.vdd_v)

    def read_clock_limit_hz(self, vio_v: float = 3.3) -> float:
        """Fastest SCLK of a readback with FSDO as it is now."""
        return facts.read_clock_limit_hz(vio_v, bool(self.config & facts.CONFIG_FSDO))

    def full_scale_v(self, channel: int, gain: int | None = None) -> float:
        """Full scale of a channel now, or under another GAIN word, whether it is on or not."""
        return facts.full_scale_v(self.gain if gain is None else gain, channel)

    def drives(self, channel: int) -> bool:
        """Whether a channel follows its code: it and the reference are on, and no alarm is."""
        down = self.config & (facts.CONFIG_REF_PWDWN | 1 << channel)
        return not down and not self._reference_alarm()

    def output_v(self, channel: int) -> float:
        """Ideal voltage of a channel, unloaded; 0 V where it does not follow its code."""
        if not self.drives(channel):
            return 0.0
        return self.active[channel] * self.full_scale_v(channel) / facts.FULL_SCALE
