r"""Text for people: unsafe characters made visible, and counted nouns.

Audit data is hostile: an escape sequence in a tool's name could recolour the screen, move the
cursor or answer a prompt, and a bidirectional override could show ``exe.txt`` for ``txt.exe``.
"""

import re

__all__ = ["counted", "visible"]

# C0 and DEL and C1; soft hyphen; Arabic letter mark, zero-width space, the directional marks,
# embeddings, overrides and isolates; line and paragraph separator; invisible operators; the byte
# order mark; interlinear annotation; lone surrogates; tag characters, which spell hidden text.
# The joiners U+200C and U+200D stay: Persian, Indic scripts and emoji are written with them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str) -> str:
    r"""Write every character that a terminal would obey, hide or reorder as an escape.

    Newline, return and tab become ``\n``, ``\r`` and ``\t``, all others ``\x1b``, ``\u202e`` or
    ``\U000e0041``. The result is one line and can be encoded as UTF-8. Backslashes stay as they
    are, so this is for showing, not for reading back.
    """
    return _HIDDEN.sub(_escape, text)


def counted(count: int, noun: str) -> str:
    """So many of something: ``1 call``, ``2,000 calls``.

    Args:
        count: how many.
        noun: the word for one of them; its plural ends in ``s``.
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _escape(found: re.Match[str]) -> str:
    char = found.group()
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
