"""The version of the package. pyproject.toml reads it from here, and run records name it."""

__version__ = "0.1.0"
