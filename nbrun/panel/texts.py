"""Texts from outside, made fit to travel. Pure functions."""

from __future__ import annotations


def cut(text: str, characters: int, *, keep: str = "start") -> str:
    """A text of at most so many characters, its start or its end kept, which says that it was cut."""
    if len(text) <= characters:
        return text
    return f"{text[: characters - 1]}…" if keep == "start" else f"…{text[1 - characters :]}"


def clean(text: str) -> str:
    """A text that UTF-8 can hold: ids and paths may carry lone surrogates."""
    return text.encode("utf-8", "replace").decode()
