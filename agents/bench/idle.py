"""The cost of an idle stack: processor time, wake-ups and memory of `tierwise up` by process, while nothing happens.

The stack has the starter's settings, free ports and a temporary folder. It is measured from Linux's /proc once it has
been ready for a while. Memory is PSS: a page that several processes share counts once. A wake-up is a voluntary context
switch: a thread that sleeps and starts to run again.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from agents.role.run_file import ask_health, running
from agents.up.plan import ROLE_NAMES
from pipeline.errors import Stop
from pipeline.settings.settings import Settings
from pipeline.settings.starter import STARTER

SETTLE_S: Final = 20.0
"""Time between ready and the measurement, for what a start leaves to do."""
MEASURE_S: Final = 30.0
READY_WITHIN_S: Final = 120.0
STOP_WITHIN_S: Final = 15.0
GOALS: Final = {"cpu_percent": 3.0, "pss_mib": 450.0, "device_pss_mib": 110.0}


class ProcessCost(NamedTuple):
    """What a process has spent so far, and its memory now."""

    cpu_s: float
    wakeups: int
    pss_mib: float


def run(settle_s: float = SETTLE_S, measure_s: float = MEASURE_S) -> dict[str, Any]:
    """Start the stack and measure it while it is idle.

    Returns
    -------
    dict
        ``{"seconds", "processes": {name: {"cpu_percent", "wakeups_per_s", "pss_mib"}}, "all": the sums, "goals"}``

    Raises
    ------
    Stop
        This system has no ``/proc``, or the stack is not ready in time.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise Stop("this benchmark reads /proc/*/smaps_rollup, which only Linux has")
    with tempfile.TemporaryDirectory(prefix="tierwise-bench-") as folder:
        file = Path(folder) / "tierwise.toml"
        file.write_text(starter_on_free_ports(), "utf-8")
        command = [sys.executable, "-m", "agents", "up", "--settings", str(file)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as up:
            try:
                _await_ready(up, Settings.load(file, {}).data_dir)
                time.sleep(settle_s)
                before, began_s = costs(up.pid), time.monotonic()
                time.sleep(measure_s)
                after, seconds = costs(up.pid), time.monotonic() - began_s
            finally:
                _end(up)
    processes = {name: rates(before[name], after[name], seconds) for name in after if name in before}
    everything = {
        key: round(sum(each[key] for each in processes.values()), 2) for key in next(iter(processes.values()))
    }
    return {"seconds": round(seconds), "processes": processes, "all": everything, "goals": GOALS}


def starter_on_free_ports() -> str:
    """Return the starter's settings with ports that are free now."""
    text = STARTER
    with socket.socket() as mqtt, socket.socket() as kafka:
        for section, free in (("mqtt", mqtt), ("kafka", kafka)):
            free.bind(("127.0.0.1", 0))
            text = text.replace(f"[{section}]\n", f"[{section}]\nport = {free.getsockname()[1]}\n", 1)
    return text + "\n[http]\n" + "\n".join(f"{role} = 0" for role in ROLE_NAMES) + "\n"


def costs(up_pid: int) -> dict[str, ProcessCost]:
    """Return the cost of `tierwise up` and of each of its processes, by name."""
    found = {"up": cost(up_pid)}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == up_pid:  # proc_pid_stat(5), the fourth field
                words = (stat.parent / "cmdline").read_text().split("\0")
                name = words[2].rpartition(".")[2]  # python -m agents ROLE, or python -m pipeline.brokers.NAME
                found[words[3] if name == "agents" else name] = cost(int(stat.parent.name))
    return found


def cost(pid: int) -> ProcessCost:
    """Return what a process has spent so far. Raises `OSError` if it has ended."""
    cpu_ns, wakeups = 0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            wakeups += _number(r"^voluntary_ctxt_switches:\s+(\d+)", task / "status")
    return ProcessCost(cpu_ns / 1e9, wakeups, _number(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup")) / 1024)


def rates(before: ProcessCost, after: ProcessCost, seconds: float) -> dict[str, float]:
    """Return what a process costs.

    >>> rates(ProcessCost(1.0, 100, 20.0), ProcessCost(1.5, 200, 21.0), 10.0)
    {'cpu_percent': 5.0, 'wakeups_per_s': 10.0, 'pss_mib': 21.0}
    """
    return {
        "cpu_percent": round(100 * (after.cpu_s - before.cpu_s) / seconds, 2),
        "wakeups_per_s": round((after.wakeups - before.wakeups) / seconds, 1),
        "pss_mib": round(after.pss_mib, 1),
    }


def rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of `tierwise bench idle`."""
    goals = report["goals"]
    drawn = [
        (
            f"{name}: CPU, wake-ups a second, memory",
            f"{each['cpu_percent']:.2f}%, {each['wakeups_per_s']:.0f}, {each['pss_mib']:.0f} MiB",
            f"<= {goals['device_pss_mib']:g} MiB" if name == "device" else "",
        )
        for name, each in report["processes"].items()
    ]
    everything = report["all"]
    return [
        *drawn,
        ("all, CPU of one core", f"{everything['cpu_percent']:.2f}%", f"<= {goals['cpu_percent']:g}%"),
        ("all, wake-ups a second", f"{everything['wakeups_per_s']:.0f}", ""),
        ("all, memory (PSS)", f"{everything['pss_mib']:.0f} MiB", f"<= {goals['pss_mib']:g} MiB"),
    ]


def _number(pattern: str, file: Path) -> int:
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _await_ready(up: subprocess.Popen[bytes], data_dir: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not all(
        (found := running(data_dir, role)) and found.port and ask_health(found.port)[0] for role in ROLE_NAMES
    ):
        if up.poll() is not None or time.monotonic() > deadline:
            raise Stop(f"the stack was not ready within {READY_WITHIN_S:.0f} s: run `tierwise doctor`")
        time.sleep(0.5)


def _end(up: subprocess.Popen[bytes]) -> None:
    up.send_signal(signal.SIGTERM)
    try:
        up.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        up.kill()
