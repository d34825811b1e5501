"""The device that a graph runs on."""

from __future__ import annotations

import logging

from ipex import _core

_log = logging.getLogger("ipex")
_told = False


def gpu(device: str) -> int | None:
    """The number of the GPU that a `device` option names; none for the CPU.

    Raises CompileError if there is none, and ValueError for another name. For ``"auto"`` one line
    in the log says why the CPU is taken.
    """
    global _told
    if device == "cpu":
        return None
    kind, _, number = device.partition(":")
    is_number = number.isdecimal() and len(number) <= 4
    if device != "auto" and (kind != "gpu" or (number and not is_number)):
        raise ValueError(f"unknown device {device!r}; valid: 'cpu', 'gpu', 'gpu:1', 'auto'")
    index = int(number or 0)
    try:
        _core.find_gpu(index)
    except _core.CompileError as error:
        if device != "auto":
            raise
        if not _told:
            _told = True
            _log.warning("runs on the CPU: %s", error)
        return None
    return index
