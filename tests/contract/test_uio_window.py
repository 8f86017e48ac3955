"""`mmio:///dev/uioN`: the window of a device file, with an ordinary file in its place."""

from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.windows import open_mmio


def test_the_file_is_the_window_from_its_first_byte_on(tmp_path: Path):
    path = tmp_path / "uio0"
    np.arange(registers.WINDOW_BYTES // 4, dtype="<u4").tofile(path)
    window = open_mmio(f"mmio://{path}")
    try:
        assert window.read(0x40, 3).tolist() == [16, 17, 18]
        window.write(registers.WINDOW_BYTES - 4, np.array([7], dtype=np.uint32))
        with pytest.raises(InputError, match="do not lie in the window"):
            window.read(registers.WINDOW_BYTES, 1)
    finally:
        window.close()
    assert np.fromfile(path, "<u4")[-1] == 7


def test_a_device_that_is_not_there_or_too_small(tmp_path: Path):
    (tmp_path / "small").write_bytes(bytes(4096))
    for name in ("none", "small"):
        with pytest.raises(RramError, match=f"{name}"):
            open_mmio(f"mmio://{tmp_path / name}")


@pytest.mark.parametrize("url", ["mmio:///", "mmio://", "mmio:///dev/uio0?via=devmem"])
def test_urls_that_name_no_device_are_refused(url: str):
    with pytest.raises(InputError, match="mmio:///dev/uio0"):
        open_mmio(url)
