"""Which application macOS asks about when a file may not be read: the one in which this process was started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_TERMINALS: Final[Mapping[str, str]] = {
    "Apple_Terminal": "Terminal",
    "iTerm.app": "iTerm",
    "vscode": "Visual Studio Code",
    "WezTerm": "WezTerm",
    "ghostty": "Ghostty",
    "WarpTerminal": "Warp",
    "Hyper": "Hyper",
}
"""``TERM_PROGRAM`` → the application as the system settings list it."""


def responsible_program(environment: Mapping[str, str] | None = None) -> str:
    """The application that macOS asks about: the one in which this process was started, such as the terminal."""
    found = application_of(os.getpid(), running_processes())
    if found is not None:
        return found
    named = (os.environ if environment is None else environment).get("TERM_PROGRAM", "")
    return _TERMINALS.get(named, named.removesuffix(".app") or "the program that you started this in (your terminal)")


def running_processes() -> dict[int, tuple[int, str]]:
    """Process → (its parent, its program), of all processes; empty where that cannot be asked."""
    try:
        listed = subprocess.run(
            ["/bin/ps", "-axo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True, timeout=5
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    fields = (line.split(None, 2) for line in listed.splitlines())
    return {int(found[0]): (int(found[1]), found[2].strip()) for found in fields if len(found) == 3}


def application_of(process: int, processes: Mapping[int, tuple[int, str]]) -> str | None:
    """The outermost application bundle among a process and those that it was started by."""
    application = None
    seen: set[int] = set()
    while process in processes and process not in seen:
        seen.add(process)
        parent, program = processes[process]
        bundle = next((part for part in Path(program).parts if part.endswith(".app")), None)
        application = bundle.removesuffix(".app") if bundle else application
        process = parent
    return application
