"""Text as whole Unicode characters.

Python's strings can hold halves of characters (lone surrogates): JSON can spell them, and names of files that are not
UTF-8 arrive with them. No file, terminal or HTTP answer can carry them, so they are refused where they enter, or
escaped where something must be shown.
"""

from __future__ import annotations

from lora_zoo.errors import BadFile, ZooError


def check(text: str, where: str, error: type[ZooError] = BadFile) -> str:
    """Return a text of whole characters as it is; one with half of a character is an error."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as reason:
        half = text[reason.start]
        raise error(f"{where}: half of a character ({half!a} at {reason.start}), which cannot be written") from reason
    return text


def escaped(text: str) -> str:
    """Return a text that can be shown anywhere: halves of characters become escapes such as \\ud800."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
