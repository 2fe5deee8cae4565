"""The text of layers: stages, words and options, and how each type of word is read and written.

In ``'conv 32x3x3 stride=2 | relu'`` stages stand between ``|``, words between spaces, and options are ``key=value``; a
word with spaces or ``|`` is quoted. A layer is a dataclass whose fields declare the words that it takes (`word`,
`words`, `option`, `flag`), so that reading, writing and the errors come from one place. The layers themselves are in
`cnnfilter.layers.fixed` and `cnnfilter.layers.learned`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from cnnfilter.errors import ModelError

_TOKEN = re.compile(r"""(?:[^\s'"|]|'[^']*'|"[^"]*")+""")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_OPTION = re.compile(r"([A-Za-z][\w-]*)=(.*)", re.DOTALL)
_NUMBERS = re.compile(r"[-+\N{MINUS SIGN}.]?\d|[\[{]")  # the beginning of a kernel that is typed as numbers

_YES_NO = {
    "yes": True,
    "true": True,
    "on": True,
    "1": True,
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}


class Stage(NamedTuple):
    """One stage: its text as typed, its words without quotes, and its options."""

    text: str
    words: tuple[str, ...]
    options: dict[str, str]


def split_stages(text: str) -> list[Stage]:
    """Split a text at each ``|`` outside quotes, and each stage into words and options.

    Raises
    ------
    ModelError
        For an empty text or stage, a quote that is not closed, or an option that is given twice.

    Examples
    --------
    >>> split_stages("conv '0 1; 1 0' stride=2 | relu")[0]
    Stage(text="conv '0 1; 1 0' stride=2", words=('conv', '0 1; 1 0'), options={'stride': '2'})
    """
    stages: list[list[str]] = [[]]
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token:
            stages[-1].append(token.group())
            position = token.end()
        elif text[position] in "'\"":
            raise ModelError(f"layers {text!r}: the quote {text[position:]} is not closed")
        else:
            if text[position] == "|":
                stages.append([])
            position += 1
    for number, tokens in enumerate(stages, 1):
        if not tokens:
            raise ModelError(
                f"layers {text!r}: stage {number} is empty; write layers between |, as in 'relu | maxpool 2'"
            )
    return [_stage(number, tokens) for number, tokens in enumerate(stages, 1)]


def _stage(number: int, tokens: Sequence[str]) -> Stage:
    words: list[str] = []
    options: dict[str, str] = {}
    text = " ".join(tokens)
    for token in tokens:
        option = _OPTION.fullmatch(token)
        if option is None or not words:
            words.append(_unquoted(token))
        elif option[1] in options:
            raise ModelError(f"layer {number} '{text}': {option[1]}= is given twice")
        else:
            options[option[1]] = _unquoted(option[2])
    return Stage(text, tuple(words), options)


def unquoted_words(stage: Stage) -> list[str]:
    """Return the words of a stage after its name that stand without quotes, without the options.

    >>> unquoted_words(split_stages("conv '1 2' 3 stride=2")[0])
    ['3']
    """
    tokens = _TOKEN.findall(stage.text)[1:]
    return [token for token in tokens if not _OPTION.fullmatch(token) and not _QUOTED.search(token)]


def _unquoted(token: str) -> str:
    return _QUOTED.sub(lambda match: match[1] if match[1] is not None else match[2], token)


def quoted(word: str, *, bare_number: bool = True) -> str:
    """Return a word as it is written in a text: in quotes if it would be split, or read as an option.

    Numbers are quoted too if they would be read as something else without quotes (``bare_number=False``).
    """
    if not bare_number and _NUMBERS.match(word) and "'" not in word:
        return f"'{word}'"
    if _TOKEN.fullmatch(word) and not _QUOTED.search(word) and not _OPTION.fullmatch(word):
        return word
    if "'" not in word:
        return f"'{word}'"
    if '"' not in word:
        return f'"{word}"'
    return '"\'"'.join(f"'{part}'" for part in word.split("'"))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown word, as in ``; did you mean 'relu'``, or nothing if no known word is similar."""
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {near[0]!r}" if near else ""


class WordType(NamedTuple):
    """A type of word: its description in errors, how it is read (None if it cannot be), and how it is written."""

    description: str
    read: Callable[[str], Any]
    show: Callable[[Any], str] = str


def _read_integer(text: str, minimum: int) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= minimum else None


def _read_integers(text: str, lengths: Sequence[int], minimum: int = 1) -> tuple[int, ...] | None:
    numbers = [_read_integer(part, minimum) for part in re.split("[x,]", text)]
    whole = tuple(number for number in numbers if number is not None)
    return whole if len(whole) == len(numbers) and len(numbers) in lengths else None


def _read_pair(text: str) -> tuple[int, int] | None:
    numbers = _read_integers(text, (1, 2))
    return (numbers[0], numbers[-1]) if numbers else None


def _show_pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]},{pair[1]}"


def _read_sides(text: str) -> tuple[int, int, int, int] | None:
    """Return (top, right, bottom, left) from N, from H,W or from T,R,B,L."""
    numbers = _read_integers(text, (1, 2, 4), minimum=0)
    if numbers is None or len(numbers) == 4:
        return numbers
    down, across = numbers[0], numbers[-1]
    return down, across, down, across


def _show_sides(sides: tuple[int, int, int, int]) -> str:
    top, right, bottom, left = sides
    if (top, right) != (bottom, left):
        return f"{top},{right},{bottom},{left}"
    return _show_pair((top, right))


def _read_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read_share(text: str) -> float | None:
    number = _read_number(text)
    return number if number is not None and 0 <= number < 1 else None


def _choice(*names: str) -> WordType:
    return WordType(" or ".join(names), lambda text: text if text in names else None)


INTEGER = WordType("a whole number from 1", lambda text: _read_integer(text, 1))
PAIR = WordType("N or H,W, whole numbers from 1", _read_pair, _show_pair)
SIZE = WordType("HxW, as in 3x3", lambda text: _read_integers(text, (2,)), lambda size: f"{size[0]}x{size[1]}")
KERNELS = WordType(
    "maps x height x width, as in 32x3x3",
    lambda text: _read_integers(text, (3,)) if "," not in text else None,
    lambda kernels: "x".join(map(str, kernels)),
)
SIDES = WordType("N, H,W or T,R,B,L, whole numbers from 0", _read_sides, _show_sides)
PADDING = WordType(
    "same, valid, N, H,W or T,R,B,L",
    lambda text: text if text in ("same", "valid") else _read_sides(text),
    lambda padding: padding if isinstance(padding, str) else _show_sides(padding),
)
NUMBER = WordType("a number", _read_number, lambda number: repr(number).removesuffix(".0"))
SHARE = WordType("a number from 0 to below 1", _read_share, lambda share: repr(share).removesuffix(".0"))
YES_NO = WordType("yes or no", lambda text: _YES_NO.get(text.lower()), lambda yes: "yes" if yes else "no")
MAX_OR_AVG = _choice("avg", "max")


def word(word_type: WordType, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that is the next word of the stage."""
    return dataclasses.field(default=default, metadata={"type": word_type, "form": "word"})


def words(word_type: WordType) -> Any:
    """Declare a field that is a tuple of all further words, at least one."""
    return dataclasses.field(metadata={"type": word_type, "form": "words"})


def option(word_type: WordType, default: Any, *, always: bool = False) -> Any:
    """Declare a field that is written ``name=value``; a default value is written only if `always`."""
    return dataclasses.field(default=default, metadata={"type": word_type, "form": "option", "always": always})


def flag() -> Any:
    """Declare a field that is true if its name stands among the words."""
    return dataclasses.field(default=False, metadata={"type": YES_NO, "form": "flag"})


class LayerText:
    """Base class of dataclasses that are read from a stage and written back as text.

    `name` is the first word of the stage; `example` stands in the errors.
    """

    name: ClassVar[str]
    example: ClassVar[str]

    @classmethod
    def read(cls, stage: Stage) -> Self:
        """Return the layer of a stage.

        Raises
        ------
        ModelError
            For a missing, surplus or unreadable word, and for an unknown option.
        """
        fields = _text_fields(cls)
        values: dict[str, Any] = {}
        rest = list(stage.words[1:])
        for field in (field for field in fields if field.metadata["form"] == "flag"):
            if field.name in rest:
                rest.remove(field.name)
                values[field.name] = True
        for field in (field for field in fields if field.metadata["form"] in ("word", "words")):
            if field.metadata["form"] == "words":
                taken, rest = rest, []
                values[field.name] = tuple(cls._value(field, word) for word in taken)
            elif rest:
                values[field.name] = cls._value(field, rest.pop(0))
            if not values.get(field.name) and field.default is dataclasses.MISSING:
                raise ModelError(
                    f"{cls.name} lacks its {field.name}: {field.metadata['type'].description}, as in '{cls.example}'"
                )
        if rest:
            raise ModelError(f"{cls.name} does not take {rest[0]!r}{suggestion(rest[0], cls._takes())}{cls._usage()}")
        by_key = {field.name: field for field in fields if field.metadata["form"] in ("option", "flag")}
        for key, text in stage.options.items():
            if key not in by_key:
                raise ModelError(f"{cls.name} has no option {key}={suggestion(key, by_key)}{cls._usage()}")
            values[by_key[key].name] = cls._value(by_key[key], text)
        return cls(**values)

    @classmethod
    def _value(cls, field: dataclasses.Field[Any], text: str) -> Any:
        word_type: WordType = field.metadata["type"]
        value = word_type.read(text)
        if value is None:
            given = f"{field.name}={text}" if field.metadata["form"] == "option" else f"{field.name} {text!r}"
            raise ModelError(f"{given} is not {word_type.description}")
        return value

    @classmethod
    def _takes(cls) -> list[str]:
        endings = {"option": "=", "flag": ""}
        return [
            field.name + endings[field.metadata["form"]]
            for field in _text_fields(cls)
            if field.metadata["form"] in endings
        ]

    @classmethod
    def _usage(cls) -> str:
        takes = f"it takes {' '.join(cls._takes())}, as in " if cls._takes() else "an example: "
        return f"; {takes}'{cls.example}'"

    def __str__(self) -> str:
        parts = [self.name]
        for field in _text_fields(type(self)):
            form, value = field.metadata["form"], getattr(self, field.name)
            show = field.metadata["type"].show
            match form:
                case "word":
                    parts.append(quoted(show(value)))
                case "words":
                    parts.extend(quoted(show(part), bare_number=False) for part in value)
                case "option" if value != field.default or field.metadata["always"]:
                    parts.append(f"{field.name}={quoted(show(value))}")
                case "flag" if value:
                    parts.append(field.name)
        return " ".join(parts)

    @property
    def text(self) -> str:
        """The layer as text, which is read back as the same layer."""
        return str(self)


def _text_fields(layer: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields that stand in the text; a layer may have others, which follow from those."""
    return [field for field in dataclasses.fields(layer) if "form" in field.metadata]
