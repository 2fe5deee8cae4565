"""Completion by the shell of kernels, layers, models, and files of kernels after ``@``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

_MODEL_SUFFIXES = (".safetensors",)
_KERNEL_SUFFIXES = (".txt", ".csv", ".json", ".npy", ".mat")


class _BashComplete(BashComplete):
    """Completion by bash, which hands over an @ as a word of its own but replaces it with the word after it."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        if args[-1:] == ["@"]:
            return args[:-1], f"@{incomplete}"
        return args, incomplete


def register() -> None:
    """Let click answer bash by `_BashComplete`."""
    add_completion_class(_BashComplete)


def starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return those of the names that begin with `incomplete`."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_kernel(ctx: click.Context | None, param: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """Return the names of kernels that begin with `incomplete`; after @, files of kernels; else any file."""
    if incomplete.startswith("@"):
        return [CompletionItem(f"@{path}") for path in _files(incomplete[1:], _KERNEL_SUFFIXES)]
    return _kernel_names(incomplete) or [CompletionItem(incomplete, type="file")]


def complete_model(ctx: click.Context | None, param: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """Return the models that come with the package and the model files that begin with `incomplete`; else any file."""
    return _models(incomplete) or [CompletionItem(incomplete, type="file")]


def complete_layers(ctx: click.Context | None, param: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """Return a text of layers with its last word completed: a model, a layer, or after ``conv`` a kernel."""
    from cnnfilter.layers.names import NAMES

    start = re.fullmatch(r"(.*[\s|])?(.*)", incomplete, re.DOTALL)
    before, word = (start[1] or "", start[2]) if start else ("", incomplete)
    stage = before.rpartition("|")[2].split()
    if not stage:
        found = starting(NAMES, word) + ([] if before.strip() else _models(word))
    elif stage[0] == "conv":
        found = complete_kernel(ctx, param, word) if word.startswith("@") else _kernel_names(word)
    else:
        found = []
    return [CompletionItem(before + item.value) for item in found]


def _kernel_names(incomplete: str) -> list[CompletionItem]:
    from cnnfilter.kernels.catalogue import ENTRIES

    return starting(ENTRIES, incomplete)


def _models(incomplete: str) -> list[CompletionItem]:
    from cnnfilter.weights import NAMES

    return [*starting(NAMES, incomplete), *map(CompletionItem, _files(incomplete, _MODEL_SUFFIXES))]


def _files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files with one of the suffixes that begin with `incomplete`, and folders, which end in a slash.

    A folder alone is completed by its files: a shell puts a space after what it completes.
    """
    folder, name = os.path.split(incomplete)
    found = []
    try:
        with os.scandir(os.path.expanduser(folder) or os.curdir) as entries:
            for entry in entries:
                is_hidden = entry.name.startswith(".") and not name.startswith(".")
                if not entry.name.startswith(name) or is_hidden:
                    continue
                path = os.path.join(folder, entry.name)
                if entry.is_dir():
                    found.append(path + "/")
                elif entry.name.lower().endswith(suffixes):
                    found.append(path)
    except OSError:  # there is no such folder, or it cannot be read
        return []
    if len(found) == 1 and found[0].endswith("/"):
        return _files(found[0], suffixes) or found
    return sorted(found)
