"""A1111's prompts that change over the steps, and AND.

[a:b:0.5] is a for the first half of the steps and b after it; [a:b:7] changes after 7 steps; [b:0.5] has no a, and
[a::0.5] no b. [a|b|c] takes another one at each step, in turn. They may be nested, and stand beside brackets of
emphasis, which are left as they are. Brackets that do not pair up are plain characters.
`a AND b :0.5` is two prompts, the second at half weight.
Deviation: a | outside of brackets is a plain character; A1111 then takes the whole prompt as plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

_GRAMMAR = """
start: item*
?item: TEXT | round | square
round: LPAR item* RPAR
square: LSQB (item | COLON | PIPE)* RSQB
%declare TEXT LPAR RPAR LSQB RSQB COLON PIPE
"""
_PIECE = re.compile(r"\\.|\\$|[()\[\]:|]|[^\\()\[\]:|]+", re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
_AND = re.compile(r"\bAND\b")
_AND_WEIGHT = re.compile(r"(?s:(.*?))\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
_NAMES = {"(": "LPAR", ")": "RPAR", "[": "LSQB", "]": "RSQB", ":": "COLON", "|": "PIPE"}
_OPENER = {")": "(", "]": "["}


_LAST = 1e6  # beyond all steps; a number of hundreds of digits would be infinite


@dataclass(frozen=True)
class Change:
    """One text before a step, another from it on."""

    before: Text
    after: Text
    when: float
    fraction: bool  # `when` is a share of all steps, not a number of steps

    def step(self, count: int) -> int:
        """Return the number of steps that `before` has."""
        return min(count, int(self.when * count if self.fraction else self.when))


@dataclass(frozen=True)
class Turns:
    """Texts that take turns."""

    options: tuple[Text, ...]


#: A text that may change over the steps: pieces one after the other.
Text = tuple[str | Change | Turns, ...]


@dataclass(frozen=True)
class Part:
    """One of the prompts that AND joins."""

    text: Text
    weight: float = 1.0

    def at(self, index: int, count: int) -> str:
        """Return the text of step `index` (from 0) of `count`."""
        return _at(self.text, index, count)


def _place(text: str) -> float:
    return max(-_LAST, min(_LAST, float(text)))


def parse(prompt: str) -> tuple[Part, ...]:
    """Read a prompt; every text is one."""
    return tuple(_part(text) for text in _AND.split(prompt))


def parse_one(prompt: str) -> Part:
    """Read a prompt in which AND is a word."""
    return Part(_scheduled(prompt))


def _part(text: str) -> Part:
    match = _AND_WEIGHT.fullmatch(text)
    return Part(_scheduled(match[1]), float(match[2])) if match else Part(_scheduled(text))


def _at(text: Text, index: int, count: int) -> str:
    pieces: list[str] = []
    for piece in text:
        if isinstance(piece, Change):
            pieces.append(_at(piece.before if index < piece.step(count) else piece.after, index, count))
        elif isinstance(piece, Turns):
            pieces.append(_at(piece.options[index % len(piece.options)], index, count))
        else:
            pieces.append(piece)
    return "".join(pieces)


def _scheduled(text: str) -> Text:
    if "[" not in text:  # as most are: nothing in it can change
        return (text,)
    tree = _parser().parse(_tokens(text))  # type: ignore[arg-type]  our lexer takes tokens, not a text
    return tuple(_pieces(tree.children))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    from lark import Lark
    from lark.lexer import Lexer

    class Ready(Lexer):
        """Hands on tokens that are made already: which brackets pair up is not for a grammar to say."""

        def __init__(self, lexer_conf: object) -> None:
            pass

        def lex(  # pyright: ignore[reportIncompatibleMethodOverride]  # as Lark calls a lexer of one's own
            self, data: Sequence[Token]
        ) -> Iterator[Token]:
            return iter(data)

    return Lark(_GRAMMAR, parser="lalr", lexer=Ready)


def _tokens(text: str) -> list[Token]:
    """Return the pieces of a text; brackets without a partner, and signs outside of square ones, are text."""
    from lark import Token

    pieces = _PIECE.findall(text)
    partner = _paired(pieces)
    tokens: list[Token] = []
    inside: list[str] = []  # paired brackets that are open
    for place, piece in enumerate(pieces):
        name = _NAMES.get(piece, "TEXT")
        if piece in "()[]" and place not in partner or piece in ":|" and inside[-1:] != ["["]:
            name = "TEXT"
        elif piece in "([":
            inside.append(piece)
        elif piece in ")]":
            inside.pop()
        tokens.append(Token(name, piece))
    return tokens


def _paired(pieces: Sequence[str]) -> set[int]:
    """Return the places of brackets that pair up. One that closes what is not open breaks all that are."""
    paired: set[int] = set()
    open_: list[int] = []
    for place, piece in enumerate(pieces):
        if piece in ("(", "["):
            open_.append(place)
        elif piece in _OPENER and open_ and pieces[open_[-1]] == _OPENER[piece]:
            paired |= {open_.pop(), place}
        elif piece in _OPENER:
            open_.clear()
    return paired


def _pieces(children: Sequence[Token | Tree[Token]]) -> Iterator[str | Change | Turns]:
    for child in children:
        if isinstance(child, str):
            yield str(child)
        elif child.data == "square":
            yield from _square(child.children)
        else:
            yield from _pieces(child.children)


def _square(children: Sequence[Token | Tree[Token]]) -> Iterator[str | Change | Turns]:
    """Yield what square brackets mean: a change, turns, or themselves for the emphasis."""
    inner = children[1:-1]
    colons, pipes = _parted(inner, "COLON"), _parted(inner, "PIPE")
    when = _NUMBER.fullmatch("".join(map(str, colons[-1]))) if len(colons) in (2, 3) and len(pipes) == 1 else None
    if when is not None:
        before = colons[0] if len(colons) == 3 else ()
        yield Change(tuple(_pieces(before)), tuple(_pieces(colons[-2])), _place(when[1]), "." in when[1])
    elif len(pipes) > 1 and len(colons) == 1:
        yield Turns(tuple(tuple(_pieces(option)) for option in pipes))
    else:
        yield from _pieces(children)


def _parted(children: Sequence[Token | Tree[Token]], sign: str) -> list[list[Token | Tree[Token]]]:
    groups: list[list[Token | Tree[Token]]] = [[]]
    for child in children:
        if isinstance(child, str) and child.type == sign:
            groups.append([])
        else:
            groups[-1].append(child)
    return groups
