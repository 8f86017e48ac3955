"""Profiles of the random tests, and what may be skipped in CI.

HYPOTHESIS_PROFILE=nightly looks harder than the default, ci.
"""

import os
import signal

import pytest
from hypothesis import Phase, settings

# Torch is not imported yet: the forked child of a test would wait for threads that only its parent
# has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Examples may take as long as they need: the wall time of a busy machine is no law of the board.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
# A first counterexample fast, and not the smallest.
settings.register_profile(
    "first", deadline=None, max_examples=400, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A job in the background of a shell is begun with Ctrl-C ignored, and so would be the processes
# that tests begin and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What a machine may lack without hiding a broken install: reference data beside the checkout, and
# a second Python. A test of pynq, torch, PyVISA or pyserial that is skipped is a failure.
ALLOWED_SKIPS = ("shared", "python3.10")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(call.excinfo.value) if call.excinfo else ""
        if not any(word in reason for word in ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped in CI: {reason}"
    return report
