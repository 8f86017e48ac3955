"""The handoff file, as pynq's own parsers read it, and the window that is found through it."""

from xml.etree import ElementTree

import numpy as np
import pytest
from pynq import Overlay
from pynq.pl_server.device import Device
from pynq.pl_server.hwh_parser import _HWHZynq

from firmware_bridge import registers
from firmware_bridge.overlay import handoff
from firmware_bridge.windows import OverlayWindow
from rram_host.errors import InputError, LinkError, RramError
from rram_host.transports import open_transport
from tests.doubles import MemoryWindow
from tests.pynq_device import FPGA0_CLK_CTRL, ZynqDevice, overlay_files

SCRATCH = registers.offset("SCRATCH")
ACCESS = {"ro": "read-only", "rw": "read-write", "wo": "write-only"}


def block_as_the_board_reads_it():
    device = ZynqDevice(MemoryWindow())
    return device.get_bitfile_metadata(handoff.PATH.with_suffix(".bit")).ip_dict["rram_0"]


def block_as_older_releases_read_it():
    """The parser of PYNQ before 3.0, still in the package."""
    return _HWHZynq(hwh_name=str(handoff.PATH)).ip_dict["rram_0"]


@pytest.mark.parametrize("reader", [block_as_the_board_reads_it, block_as_older_releases_read_it])
def test_pynq_finds_the_whole_register_map_in_the_handoff_file(reader):
    block = reader()
    assert (block["phys_addr"], block["addr_range"]) == (0x43C0_0000, 0x20_0000)
    assert block["type"] == handoff.VLNV
    assert set(block["registers"]) == set(registers.BY_NAME)
    for register in registers.REGISTERS:
        found = block["registers"][register.name]
        assert found["address_offset"] == register.offset
        assert (found["size"], found["access"]) == (32, ACCESS[register.access])
        bits = {name: (f["bit_offset"], f["bit_width"]) for name, f in found["fields"].items()}
        assert bits == {f.name: (f.low, f.high - f.low + 1) for f in register.fields}
    for memory in registers.MEMORIES:
        assert int(block["parameters"][f"C_{memory.name}_OFFSET"], 0) == memory.offset
        assert int(block["parameters"][f"C_{memory.name}_WORDS"]) == memory.words


def test_the_address_lies_where_the_general_purpose_port_reaches():
    block = block_as_the_board_reads_it()
    assert block["phys_addr"] >= 0x4000_0000
    assert block["phys_addr"] + block["addr_range"] <= 0x8000_0000  # M_AXI_GP0 of the Zynq


def test_the_handoff_file_says_that_vivado_did_not_write_it():
    assert "not exported by Vivado" in handoff.PATH.read_text()
    info = ElementTree.parse(handoff.PATH).find("SYSTEMINFO")
    assert (info.get("DEVICE"), info.get("PACKAGE"), info.get("SPEEDGRADE")) == (
        "7z045",
        "ffg900",
        "-2",
    )


# ---- through pynq.Overlay -------------------------------------------------------------------


def test_loading_sets_the_clock_to_10_ns_and_only_attaching_touches_nothing(tmp_path):
    bitfile, device = overlay_files(tmp_path), ZynqDevice(MemoryWindow())
    OverlayWindow(bitfile, download=False, device=device)
    assert device.downloads == []
    assert device.slcr[FPGA0_CLK_CTRL // 4] == 0
    OverlayWindow(bitfile, device=device)
    assert device.downloads == [str(bitfile)]
    control = int(device.slcr[FPGA0_CLK_CTRL // 4])
    divisors = (control >> 8 & 0x3F) * (control >> 20 & 0x3F)
    pll = int(device.slcr[0x108 // 4]) >> 12
    assert 33.333e6 * pll / divisors == pytest.approx(100e6, rel=1e-4)


def test_pynqs_own_register_map_and_our_window_see_the_same_words(tmp_path):
    device = ZynqDevice(MemoryWindow())
    bitfile = overlay_files(tmp_path)
    window = OverlayWindow(bitfile, device=device)
    block = Overlay(str(bitfile), device=device).rram_0
    window.write(SCRATCH, np.array([0xCAFE_F00D], np.uint32))
    assert int(block.register_map.SCRATCH) == 0xCAFE_F00D
    block.register_map.SCRATCH = 5
    assert window.read(SCRATCH, 1)[0] == 5
    window.write(registers.offset("STATUS"), np.array([registers.STATUS_FAULT], np.uint32))
    assert (block.register_map.STATUS.BUSY, block.register_map.STATUS.FAULT) == (0, 1)


def test_the_window_follows_the_handoff_file(tmp_path):
    window = MemoryWindow()
    device = ZynqDevice(window, base=0x6000_0000)
    bitfile = overlay_files(tmp_path)
    text = handoff.PATH.read_text()
    assert "0x43C00000" in text
    text = text.replace("0x43C00000", "0x60000000").replace("0x43DFFFFF", "0x601FFFFF")
    bitfile.with_suffix(".hwh").write_text(text)
    OverlayWindow(bitfile, device=device).write(SCRATCH, np.array([9], np.uint32))
    assert window.writes == [(SCRATCH, [9])]


# ---- by URL ---------------------------------------------------------------------------------


@pytest.fixture
def on_the_board(monkeypatch):
    """A machine whose active pynq device is an emulated one."""
    device = ZynqDevice(MemoryWindow())
    monkeypatch.setattr(Device, "_active_device", device, raising=False)
    return device


@pytest.mark.parametrize(
    ("keys", "downloads"), [("", 1), ("&ip=rram_0&download=1", 1), ("&download=0", 0)]
)
def test_an_overlay_opens_by_url(keys, downloads, on_the_board, tmp_path):
    link = open_transport(f"mmio://?overlay={overlay_files(tmp_path)}{keys}")
    link.write(SCRATCH, np.array([3], np.uint32))
    assert link.read(SCRATCH, 1)[0] == 3
    link.close()
    assert len(on_the_board.downloads) == downloads


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ("&ip=axi_dma_0", "no block axi_dma_0; it has: rram_0"),
        ("&download=yes", "download=yes"),
        ("&via=devmem", "mmio://?overlay="),
        ("&base=0x43C00000", "mmio://?overlay="),
    ],
)
def test_overlay_urls_that_make_no_sense_are_refused(keys, word, on_the_board, tmp_path):
    with pytest.raises(InputError) as refused:
        open_transport(f"mmio://?overlay={overlay_files(tmp_path)}{keys}")
    assert word in str(refused.value)
    assert on_the_board.downloads == []


def test_a_block_that_is_too_small_is_refused(tmp_path):
    bitfile = overlay_files(tmp_path)
    text = handoff.PATH.read_text().replace("0x43DFFFFF", "0x43C0FFFF")
    bitfile.with_suffix(".hwh").write_text(text)
    with pytest.raises(InputError, match="spans 0x10000 bytes at 0x43c00000.*needs 0x200000"):
        OverlayWindow(bitfile, download=False, device=ZynqDevice(MemoryWindow()))


@pytest.mark.parametrize("broken", ["no bitstream", "no handoff file", "rubbish", "no device"])
def test_an_overlay_that_does_not_open_says_why(broken, tmp_path, monkeypatch):
    bitfile, device = overlay_files(tmp_path), ZynqDevice(MemoryWindow())
    if broken == "no bitstream":
        bitfile.unlink()
    elif broken == "no handoff file":
        bitfile.with_suffix(".hwh").unlink()
    elif broken == "rubbish":
        bitfile.with_suffix(".hwh").write_text("<EDKSYSTEM")
    else:
        monkeypatch.setattr(Device, "_devices", [], raising=False)
        with pytest.raises(LinkError, match=r"mmio://.*cannot open the overlay.*No Devices"):
            open_transport(f"mmio://?overlay={bitfile}")
        return
    with pytest.raises(RramError, match="cannot open the overlay"):
        OverlayWindow(bitfile, device=device)
    assert device.downloads == []
