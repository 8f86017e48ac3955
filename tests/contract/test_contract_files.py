"""The contract on disk is the contract in code, and it loads where the board runs it."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge import contract, microcode, registers

ROOM = Path(contract.__file__).parent
MODULES = sorted(path for path in ROOM.rglob("*.py") if "__pycache__" not in path.parts)
NEW_SINCE_3_10 = {"tomllib"}
NEW_NAMES = {
    "typing": {"Self", "LiteralString", "Never", "Required", "NotRequired", "assert_never"},
    "enum": {"StrEnum", "ReprEnum", "EnumCheck", "verify"},
    "datetime": {"UTC"},
    "asyncio": {"TaskGroup", "Runner", "timeout", "Barrier"},
    "contextlib": {"chdir"},
}


@pytest.mark.parametrize("path", contract.outputs(), ids=lambda path: path.name)
def test_generated_files_on_disk_are_what_the_contract_generates(path):
    assert path.read_text(encoding="utf-8") == contract.outputs()[path]


def test_the_header_names_every_register_memory_operation_and_fault_with_its_number():
    header = contract.c_header()
    found = dict(re.findall(r"#define RRAM_(\w+) (\w+?)u\b", header))
    for register in registers.REGISTERS:
        assert int(found[register.name], 0) == register.offset
    for memory in registers.MEMORIES:
        assert int(found[memory.name], 0) == memory.offset
        assert int(found[f"{memory.name}_WORDS"], 0) == memory.words
    for op in microcode.Op:
        assert int(found[f"OP_{op.name}"], 0) == op
    for fault in microcode.Fault:
        assert int(found[f"FAULT_{fault.name}"], 0) == fault
    assert int(found["CONTRACT_HASH_VALUE"], 0) == contract.contract_hash()


def test_the_hash_changes_with_a_register_a_memory_an_operation_and_a_cost(monkeypatch):
    seen = {contract.contract_hash()}
    with monkeypatch.context() as patch:
        patch.setattr(registers, "REGISTERS", registers.REGISTERS[:-1])
        seen.add(contract.contract_hash())
    with monkeypatch.context() as patch:
        patch.setattr(registers, "MEMORIES", registers.MEMORIES[:-1])
        seen.add(contract.contract_hash())
    with monkeypatch.context() as patch:
        patch.setattr(microcode, "Op", list(microcode.Op)[:-1])
        seen.add(contract.contract_hash())
    with monkeypatch.context() as patch:
        patch.setattr(microcode, "CYCLES_CONVERT", microcode.CYCLES_CONVERT + 1)
        seen.add(contract.contract_hash())
    assert len(seen) == 5


# ---- Python 3.10, on the Zynq's own Linux ---------------------------------------------------


def _top_level_imports(tree: ast.Module) -> list[tuple[str, list[str]]]:
    """Modules (with the names taken from them) that are imported when the module is."""
    found = []
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.append((node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = ast.iter_child_nodes(node)
            waiting += [child for child in inner if isinstance(child, ast.stmt)]
    return found


def test_import_scan_sees_nested_statements_and_not_functions():
    text = "try:\n import a\nexcept E:\n pass\ndef f():\n import b\nclass C:\n from c import d\n"
    assert sorted(_top_level_imports(ast.parse(text))) == [("a", []), ("c", ["d"])]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOM)))
def test_module_is_python_3_10_and_needs_only_the_standard_library_and_numpy(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    allowed = (set(sys.stdlib_module_names) - NEW_SINCE_3_10) | {"numpy", "firmware_bridge"}
    for module, names in _top_level_imports(tree):
        assert module.split(".")[0] in allowed, f"{path.name} imports {module}"
        assert not NEW_NAMES.get(module, set()) & set(names)


def _python_3_10() -> str:
    found = shutil.which("python3.10")
    if found is None:
        pytest.skip("no python3.10 on PATH")
    probe = subprocess.run([found, "-c", "import numpy"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("the python3.10 on PATH has no numpy, or is a shim without a version")
    return found


def test_the_whole_room_imports_under_python_3_10():
    names = [
        ".".join(path.relative_to(ROOM.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.name != "__main__.py"
    ]
    assert "firmware_bridge.microcode" in names
    for name in names:
        importlib.import_module(name)
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)\n"
    result = subprocess.run(
        [_python_3_10(), "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOM.parent,
        check=False,
    )
    assert result.returncode == 0, result.stderr
