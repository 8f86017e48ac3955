"""Write the netlists of this folder, run ngspice on them, and store what it finds as JSON.

    python tests/sim/golden/write_golden.py

Tests read the JSON only; ngspice is needed here alone.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ROWS, COLS, KNEE, SLOPE, THRESHOLD = 3, 4, 0.25, 1e-3, 0.6
ELEMENT = [
    [12e-6, 55e-6, 90e-6, 3e-6],
    [70e-6, 8e-6, 0.5e-6, 40e-6],
    [25e-6, 100e-6, 33e-6, 61e-6],
]
BL_LEAD, BL_SEGMENT = [8.0, 11.0, 5.0, 9.0], 2.5
SL_LEAD, SL_SEGMENT = [125.0, 118.0, 131.0], 1.5

Point = dict[str, list[float | None]]
POINTS: dict[str, Point] = {
    "read": {
        "v_bl": [0.9, 1.0, 0.8, 0.95],
        "v_sl": [0.9, 0.9005, 0.8992],
        "v_wl": [3.3, 3.3, 3.3],
    },
    "iv_point": {
        "v_bl": [1.7, 0.9, 0.9, 0.9],
        "v_sl": [0.9, 0.9, 0.9],
        "v_wl": [3.3, 3.3, 0.0],
    },
    "reverse": {
        "v_bl": [0.0, 0.3, 0.0, 0.6],
        "v_sl": [1.2, 1.0, 0.9],
        "v_wl": [3.3, 2.4, 3.3],
    },
    "saturated": {
        "v_bl": [1.9, 1.9, 1.2, 1.5],
        "v_sl": [0.0, 0.2, 0.0],
        "v_wl": [0.75, 0.9, 0.68],
    },
    "open_line": {
        "v_bl": [1.0, 0.8, 0.95, 0.7],
        "v_sl": [0.9, None, 0.9],
        "v_wl": [3.3, 3.3, 3.3],
    },
}


def netlist(name: str, point: Point) -> str:
    """The array at one point: nodes b, m, s of cell (r, c) are b_r_c, m_r_c, s_r_c."""
    out = [
        f"* {ROWS} x {COLS} 1T1R array: {name}",
        f".model n nmos level=1 vto={THRESHOLD} kp={SLOPE} lambda=0 gamma=0 is=0",
        ".options reltol=1e-9 abstol=1e-15 vntol=1e-12 gmin=1e-18 itl1=2000",
    ]
    for c in range(COLS):
        out += [f"VBL{c} pb{c} 0 {point['v_bl'][c]}", f"RBL{c} pb{c} b_0_{c} {BL_LEAD[c]}"]
        out += [f"RB_{r}_{c} b_{r - 1}_{c} b_{r}_{c} {BL_SEGMENT}" for r in range(1, ROWS)]
    for r in range(ROWS):
        out += [f"VWL{r} w{r} 0 {point['v_wl'][r]}"]
        if point["v_sl"][r] is not None:
            out += [f"VSL{r} ps{r} 0 {point['v_sl'][r]}", f"RSL{r} s_{r}_0 ps{r} {SL_LEAD[r]}"]
        out += [f"RS_{r}_{c} s_{r}_{c - 1} s_{r}_{c} {SL_SEGMENT}" for c in range(1, COLS)]
        for c in range(COLS):
            n, amp = f"{r}_{c}", ELEMENT[r][c] * KNEE
            out += [
                f"BX_{n} b_{n} m_{n} I={amp!r}*sinh((V(b_{n})-V(m_{n}))/{KNEE})",
                f"M_{n} m_{n} w{r} s_{n} 0 n W=1u L=1u",
            ]
    out += [".control", "set numdgt=15", "op"]
    out += [f"print i(vsl{r})" for r in range(ROWS) if point["v_sl"][r] is not None]
    out += [f"print v({k}_{r}_{c})" for k in "bsm" for r in range(ROWS) for c in range(COLS)]
    return "\n".join([*out, "quit 0", ".endc", ".end", ""])


def ngspice(*args: str) -> str:
    """What ngspice prints."""
    run = subprocess.run(["ngspice", *args], capture_output=True, text=True, cwd=HERE, check=True)
    return run.stdout


def nodes(found: dict[str, float], kind: str) -> list[list[float]]:
    """Voltages of one kind of node, (rows, cols)."""
    return [[found[f"v({kind}_{r}_{c})"] for c in range(COLS)] for r in range(ROWS)]


def main() -> None:
    """Write everything."""
    version = re.findall(r"ngspice-\d+", ngspice("--version"))[0]
    for name, point in POINTS.items():
        (HERE / f"{name}.cir").write_text(netlist(name, point))
        printed = re.findall(r"^([vi]\(\S+\)) = (\S+)$", ngspice("-b", f"{name}.cir"), re.M)
        found = {key: float(value) for key, value in printed}
        golden = {
            "simulator": version,
            "element_siemens": ELEMENT,
            "knee_v": KNEE,
            "gate_slope_siemens_per_v": SLOPE,
            "gate_threshold_v": THRESHOLD,
            "bl_lead_ohm": BL_LEAD,
            "bl_segment_ohm": BL_SEGMENT,
            "sl_lead_ohm": SL_LEAD,
            "sl_segment_ohm": SL_SEGMENT,
            **point,
            "sl_a": [found.get(f"i(vsl{r})", 0.0) for r in range(ROWS)],
            "bl_node_v": nodes(found, "b"),
            "sl_node_v": nodes(found, "s"),
            "inner_node_v": nodes(found, "m"),
        }
        (HERE / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
