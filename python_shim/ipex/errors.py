"""Errors and warnings."""

from ipex._core import CompileError


class FallbackWarning(UserWarning):
    """A graph could not be compiled and runs in eager."""


__all__ = ["CompileError", "FallbackWarning"]
