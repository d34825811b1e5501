"""A torch.compile backend for CPUs: ``torch.compile(model, backend="ipex")``, without an import."""

from ipex.errors import CompileError

__all__ = ["CompileError"]
