"""The hardware handoff file (.hwh) of the design, written from the register map.

`pynq.Overlay` reads from it where the slave lies, how its registers are called, and which clocks
to set. Vivado exports such a file beside every bitstream. There is no bitstream yet: this one is
written here, for the part of the ZC706, with the two blocks that software sees. What Vivado would
add between them (the interconnect, the reset block) and their AXI signals are left out. It fixes
what the gateware must match: base, range, register names, and a clock of 10 ns.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as Xml

from firmware_bridge import registers

PATH = Path(__file__).parent / "rram.hwh"
IP_NAME = "rram_0"
VLNV = "rram.bench:user:rram_sequencer:1.0"
_PS_NAME, _PS_VLNV = "processing_system7_0", "xilinx.com:ip:processing_system7:5.5"
_AXI_VLNV = "xilinx.com:interface:aximm:1.0"
_ACCESS = {"ro": "read-only", "rw": "read-write", "wo": "write-only"}
_CLOCK_HZ = 100_000_000
# The I/O PLL of the ZC706 runs at 1 GHz (33.33 MHz x 30): FCLK0 = 1 GHz / 5 / 2, one cycle 10 ns.
_DIVISORS = ((5, 2), (1, 1), (1, 1), (1, 1))

# Of each block: ports as (name, direction, kind, who is at the other end).
_PS_PORTS = (
    ("FCLK_CLK0", "O", "clk", (IP_NAME, "s_axi_aclk")),
    ("FCLK_RESET0_N", "O", "rst", (IP_NAME, "s_axi_aresetn")),
    ("M_AXI_GP0_ACLK", "I", "clk", (_PS_NAME, "FCLK_CLK0")),
)
_IP_PORTS = (
    ("s_axi_aclk", "I", "clk", (_PS_NAME, "FCLK_CLK0")),
    ("s_axi_aresetn", "I", "rst", (_PS_NAME, "FCLK_RESET0_N")),
)


def document() -> str:
    """The handoff file as text."""
    root = Xml.Element("EDKSYSTEM", EDWVERSION="1.2", TIMESTAMP="", VIVADOVERSION="")
    made = "written by python -m firmware_bridge.contract, not exported by Vivado: do not edit"
    root.append(Xml.Comment(f" {made} "))
    Xml.SubElement(
        root,
        "SYSTEMINFO",
        ARCH="zynq",
        DEVICE="7z045",
        NAME="rram",
        PACKAGE="ffg900",
        SPEEDGRADE="-2",
    )
    Xml.SubElement(root, "EXTERNALPORTS")
    Xml.SubElement(root, "EXTERNALINTERFACES")
    modules = Xml.SubElement(root, "MODULES")
    _processing_system(modules)
    _sequencer(modules)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8" standalone="no" ?>\n' + (
        Xml.tostring(root, encoding="unicode") + "\n"
    )


# ---- blocks ---------------------------------------------------------------------------------


def _processing_system(modules: Xml.Element) -> None:
    attributes = {"CONFIGURABLE": "TRUE", "IPTYPE": "PERIPHERAL", "IS_PL": "FALSE"}
    module = _module(modules, _PS_NAME, _PS_VLNV, attributes)
    _parameters(module, _clocks())
    _ports(module, _PS_PORTS)
    _bus(module, "M_AXI_GP0", "MASTER", {"PROTOCOL": "AXI3", "DATA_WIDTH": "32"})
    last = registers.WINDOW_BASE + registers.WINDOW_BYTES - 1
    Xml.SubElement(
        Xml.SubElement(module, "MEMORYMAP"),
        "MEMRANGE",
        ADDRESSBLOCK="reg0",
        BASENAME="C_BASEADDR",
        BASEVALUE=f"0x{registers.WINDOW_BASE:08X}",
        HIGHNAME="C_HIGHADDR",
        HIGHVALUE=f"0x{last:08X}",
        INSTANCE=IP_NAME,
        IS_DATA="TRUE",
        IS_INSTRUCTION="TRUE",
        MASTERBUSINTERFACE="M_AXI_GP0",
        MEMTYPE="REGISTER",
        SLAVEBUSINTERFACE="S_AXI",
    )
    Xml.SubElement(Xml.SubElement(module, "PERIPHERALS"), "PERIPHERAL", INSTANCE=IP_NAME)


def _clocks() -> Iterable[tuple[str, str]]:
    for index, divisors in enumerate(_DIVISORS):
        yield f"PCW_FPGA_FCLK{index}_ENABLE", str(int(index == 0))
        for place, divisor in enumerate(divisors):
            yield f"PCW_FCLK{index}_PERIPHERAL_DIVISOR{place}", str(divisor)


def _sequencer(modules: Xml.Element) -> None:
    attributes = {"IPTYPE": "PERIPHERAL", "MODCLASS": "PERIPHERAL"}
    module = _module(modules, IP_NAME, VLNV, attributes)
    block = Xml.SubElement(
        Xml.SubElement(module, "ADDRESSBLOCKS"),
        "ADDRESSBLOCK",
        ACCESS="read-write",
        INTERFACE="S_AXI",
        NAME="reg0",
        RANGE=str(registers.WINDOW_BYTES),
        USAGE="register",
    )
    names = Xml.SubElement(block, "REGISTERS")
    for register in registers.REGISTERS:
        _register(names, register)
    _parameters(module, _memories())
    _ports(module, _IP_PORTS)
    _bus(module, "S_AXI", "SLAVE", {"PROTOCOL": "AXI4LITE", "DATA_WIDTH": "32"})


def _memories() -> Iterable[tuple[str, str]]:
    """Memories are no registers to pynq; they are told as parameters of the block."""
    for memory in registers.MEMORIES:
        yield f"C_{memory.name}_OFFSET", f"0x{memory.offset:X}"
        yield f"C_{memory.name}_WORDS", str(memory.words)


def _register(parent: Xml.Element, register: registers.Register) -> None:
    element = Xml.SubElement(parent, "REGISTER", NAME=register.name)
    _property(element, "DESCRIPTION", register.doc)
    _property(element, "ADDRESS_OFFSET", f"0x{register.offset:X}")
    _property(element, "SIZE", "32")
    _property(element, "ACCESS", _ACCESS[register.access])
    _property(element, "IS_ENABLED", "true")
    _property(element, "RESET_VALUE", f"0x{register.reset:X}")
    if register.fields:
        fields = Xml.SubElement(element, "FIELDS")
        for field in register.fields:
            _field(fields, field, _ACCESS[register.access])


def _field(parent: Xml.Element, field: registers.Field, access: str) -> None:
    element = Xml.SubElement(parent, "FIELD", NAME=field.name)
    _property(element, "DESCRIPTION", field.doc)
    _property(element, "ADDRESS_OFFSET", str(field.low))
    _property(element, "ACCESS", access)
    _property(element, "BIT_OFFSET", str(field.low))
    _property(element, "BIT_WIDTH", str(field.high - field.low + 1))


# ---- the format -----------------------------------------------------------------------------


def _module(modules: Xml.Element, name: str, vlnv: str, attributes: dict[str, str]) -> Xml.Element:
    _, _, kind, version = vlnv.split(":")
    return Xml.SubElement(
        modules,
        "MODULE",
        attributes,
        FULLNAME=f"/{name}",
        HWVERSION=version,
        INSTANCE=name,
        IS_ENABLE="1",
        MODTYPE=kind,
        VLNV=vlnv,
    )


def _parameters(module: Xml.Element, pairs: Iterable[tuple[str, str]]) -> None:
    parent = Xml.SubElement(module, "PARAMETERS")
    for name, value in pairs:
        Xml.SubElement(parent, "PARAMETER", NAME=name, VALUE=value)


def _ports(module: Xml.Element, ports: Iterable[tuple[str, str, str, tuple[str, str]]]) -> None:
    parent = Xml.SubElement(module, "PORTS")
    for name, direction, kind, (instance, port) in ports:
        net = "FCLK_CLK0" if kind == "clk" else "FCLK_RESET0_N"
        attributes = {"DIR": direction, "NAME": name, "SIGIS": kind}
        if kind == "clk":
            attributes["CLKFREQUENCY"] = str(_CLOCK_HZ)
        element = Xml.SubElement(parent, "PORT", attributes, SIGNAME=f"{_PS_NAME}_{net}")
        connections = Xml.SubElement(element, "CONNECTIONS")
        Xml.SubElement(connections, "CONNECTION", INSTANCE=instance, PORT=port)


def _bus(module: Xml.Element, name: str, kind: str, pairs: dict[str, str]) -> None:
    element = Xml.SubElement(
        Xml.SubElement(module, "BUSINTERFACES"),
        "BUSINTERFACE",
        BUSNAME=f"{_PS_NAME}_M_AXI_GP0",
        DATAWIDTH="32",
        NAME=name,
        TYPE=kind,
        VLNV=_AXI_VLNV,
    )
    for key, value in pairs.items():
        Xml.SubElement(element, "PARAMETER", NAME=key, VALUE=value)
    Xml.SubElement(element, "PORTMAPS")


def _property(parent: Xml.Element, name: str, value: str) -> None:
    Xml.SubElement(parent, "PROPERTY", NAME=name, VALUE=value)
