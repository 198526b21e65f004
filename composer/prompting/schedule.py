"""A1111's prompts that change over the steps, and AND.

[a:b:0.5] is a for the first half of the steps and b after it; [a:b:7] changes after 7 steps; [b:0.5] has no a, and
[a::0.5] no b. [a|b|c] takes another one at each step, in turn. They may be nested, and stand beside brackets of
emphasis, which are left as they are. Brackets that do not pair up are plain characters.
`a AND b :0.5` is two prompts, the second at half weight.
Over two passes they go on as in A1111 since 1.6: shares from 0 to 1 are of the first pass, from 1 to 2 of the second,
and whole numbers count on, so that after 20 steps [a:b:25] changes after five of the second pass. In each pass the
steps that are done count; of a picture that begins with one, A1111 counts those too that are left out.
Deviation: a | outside of brackets is a plain character; A1111 then takes the whole prompt as plain. Brackets nested
deeper than `_DEPTH` are plain characters.
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
_NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*")
_AND = re.compile(r"\bAND\b")
_NAMES = {"(": "LPAR", ")": "RPAR", "[": "LSQB", "]": "RSQB", ":": "COLON", "|": "PIPE"}
_OPENER = {")": "(", "]": "["}


_DEPTH = 50
MOST_WEIGHT = 1000.0  # of a prompt that AND joins, to either side of 0
_LAST = 1e6  # beyond all steps; a number of hundreds of digits would be infinite


@dataclass(frozen=True)
class Timeline:
    """The steps of one pass over a picture, in which its prompts are read."""

    count: int
    earlier: int | None = None  # steps of the first pass; None: this is the first

    def step(self, when: float, fraction: bool) -> int:
        """Return the step of this pass, if it has it, at a share of all its steps or at a number of steps."""
        first = self.earlier is None
        found = int((when - (0.0 if first else 1.0)) * self.count) if fraction else int(when - (self.earlier or 0))
        return min(self.count, found)


@dataclass(frozen=True)
class Change:
    """One text before a step, another from it on."""

    before: Text
    after: Text
    when: float
    fraction: bool  # `when` is a share of all steps, not a number of steps


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

    def at(self, index: int, timeline: Timeline) -> str:
        """Return the text of step `index` (from 0) of a pass."""
        return _at(self.text, index, timeline)


def _moment(text: str) -> float:
    return max(-_LAST, min(_LAST, float(text)))


def parse(prompt: str) -> tuple[Part, ...]:
    """Read a prompt; every text is one."""
    return tuple(_part(text) for text in _AND.split(prompt))


def parse_one(prompt: str) -> Part:
    """Read a prompt in which AND is a word."""
    return Part(_scheduled(prompt))


def _part(text: str) -> Part:
    before, colon, tail = text.rpartition(":")
    weight = _NUMBER.fullmatch(tail) if colon else None
    return Part(_scheduled(text)) if weight is None else Part(_scheduled(before.rstrip()), float(weight[1]))


def changing(prompt: str) -> tuple[tuple[int, int], ...]:
    """Return where a prompt changes over the steps: the places of brackets that begin and end such text."""
    if "[" not in prompt:
        return ()
    tree = _parser().parse(_tokens(prompt))  # type: ignore[arg-type]  our lexer takes tokens, not a text
    squares = [one.children for one in tree.iter_subtrees() if one.data == "square"]
    ends = [(children[0], children[-1]) for children in squares if _changes(children)]
    return tuple((_place(first), _place(last)) for first, last in ends)


def _changes(children: Sequence[Token | Tree[Token]]) -> bool:
    return isinstance(next(_square(children), None), Change | Turns)


def _place(bracket: Token | Tree[Token]) -> int:
    assert isinstance(bracket, str), "brackets are tokens"
    return bracket.start_pos or 0


def _at(text: Text, index: int, timeline: Timeline) -> str:
    pieces: list[str] = []
    for piece in text:
        if isinstance(piece, Change):
            before = index < timeline.step(piece.when, piece.fraction)
            pieces.append(_at(piece.before if before else piece.after, index, timeline))
        elif isinstance(piece, Turns):
            pieces.append(_at(piece.options[index % len(piece.options)], index, timeline))
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

    matches = list(_PIECE.finditer(text))
    partner = _paired([match[0] for match in matches])
    tokens: list[Token] = []
    inside: list[str] = []  # paired brackets that are open
    for place, match in enumerate(matches):
        piece = match[0]
        name = _NAMES.get(piece, "TEXT")
        if piece in ("(", "[") and place in partner and len(inside) == _DEPTH:
            partner.pop(partner.pop(place))
        if piece in "()[]" and place not in partner or piece in ":|" and inside[-1:] != ["["]:
            name = "TEXT"
        elif piece in "([":
            inside.append(piece)
        elif piece in ")]":
            inside.pop()
        tokens.append(Token(name, piece, start_pos=match.start()))
    return tokens


def _paired(pieces: Sequence[str]) -> dict[int, int]:
    """Return for brackets that pair up the place of the other. One that closes what is not open breaks all that are."""
    paired: dict[int, int] = {}
    open_: list[int] = []
    for place, piece in enumerate(pieces):
        if piece in ("(", "["):
            open_.append(place)
        elif piece in _OPENER and open_ and pieces[open_[-1]] == _OPENER[piece]:
            other = open_.pop()
            paired |= {other: place, place: other}
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
        yield Change(tuple(_pieces(before)), tuple(_pieces(colons[-2])), _moment(when[1]), "." in when[1])
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
