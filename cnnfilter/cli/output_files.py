"""The names of results, and which existing files they may replace, decided before any work begins."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.input_files import format_of
from cnnfilter.cli.messages import reason
from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import ARRAY_FORMATS, LOSSLESS_FORMATS, SUFFIXES, format_of_suffix
from cnnfilter.jobs.source_target import STDIN, STDOUT, Source, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnnfilter.images.image import Image

ON_WINDOWS = os.name == "nt"

TEMPLATE_FIELDS = ("stem", "name", "ext", "dir", "index", "page")
"""The names in braces that the template of an output may have; the help of ``-o`` explains them."""


def bad_output(message: str) -> click.BadParameter:
    """Return the usage error for a wrong value of ``-o/--output``."""
    return click.BadParameter(message, param_hint="'-o' / '--output'")


class Naming:
    """The rules that give a result its name and format: ``-o/--output`` and ``-f/--format``.

    Parameters
    ----------
    output : str or None
        The value of ``-o``: a file, a folder, a template or ``-``.
    format : str or None
        The value of ``-f``.
    tag : str
        Name of the operation, used where `output` is None: ``{stem}-{tag}.{ext}``.
    to_stdout : bool
        Whether the result goes to stdout where `output` is None.
    lossless : bool
        Whether a result has the format of its input only if that is lossless: JPEG holds no alpha, for example.
    """

    def __init__(
        self, output: str | None, format: str | None, tag: str, *, to_stdout: bool, lossless: bool = False
    ) -> None:
        self.format = format
        self.default_formats = LOSSLESS_FORMATS if lossless else frozenset(SUFFIXES.values())
        self.has_default_name = output is None and not to_stdout
        self.folder = None
        if output == "":
            raise bad_output("an empty name is no output (an unset variable, perhaps).")
        if output is None:
            output = STDOUT if to_stdout else "{stem}-" + _escaped(tag) + ".{ext}"
        elif output != STDOUT and _is_folder(output):
            self.folder = output
            output = os.path.join(_escaped(output), "{stem}.{ext}")
        self.template = output
        self.to_stdout = output == STDOUT
        self.fields = set() if self.to_stdout else _fields_of(output)
        self.makes_folders = self.folder is not None or bool(self.fields)
        self.known_format = format
        if not self.fields and not self.to_stdout and format is None:
            self.known_format = _format_of_suffix(output)  # refuses an unknown suffix before any input is read

    def target(self, source: Source, index: int) -> Target:
        """Return the target of `source`, which is number `index` of the inputs, counted from 1."""
        if self.to_stdout:
            return Target(STDOUT, self.format or _stdout_format(source))
        folder, name = os.path.split(source.file_name)
        if not self.template.startswith("{dir}"):
            folder = _relative_folder(folder)
        values = {"stem": os.path.splitext(name)[0], "name": name, "dir": folder or ".", "index": index}
        values["page"] = source.page
        bare = self._fill(values, "")
        format = self.format or _format_of_suffix(bare) or self._default_format(source)
        ext = format if self.folder is None else _suffix_for(format, name)
        return Target(self._fill(values, ext), format, make_folder=self.makes_folders)

    def _default_format(self, source: Source) -> str:
        """Return the format of a result where none is given: that of the input, else PNG."""
        format = format_of(source)
        return format if format in self.default_formats else "png"

    def _fill(self, values: dict[str, Any], ext: str) -> str:
        try:
            return self.template.format(**values, ext=ext)
        except ValueError as error:  # {stem:d}
            raise bad_output(f"{self.template!r} cannot be filled in: {error}.") from error


def _suffix_for(format: str, name: str) -> str:
    """Return the suffix of a result in a folder: that of the input `name` if it stands for this format.

    >>> _suffix_for("jpg", "photo.jpeg"), _suffix_for("jpg", "photo.png")
    ('jpeg', 'jpg')
    """
    suffix = os.path.splitext(name)[1]
    return suffix[1:] if SUFFIXES.get(suffix.lower()) == format and format != "ppm" else format


def _relative_folder(folder: str) -> str:
    """Return a folder as a relative path without ``..``, so that ``out/{dir}`` is always inside ``out``.

    >>> _relative_folder("/photos/2024"), _relative_folder("../photos")
    ('photos/2024', 'photos')
    """
    parts = os.path.splitdrive(os.path.normpath(folder))[1].split(os.sep)
    return os.sep.join(part for part in parts if part not in ("", os.curdir, os.pardir))


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _is_folder(output: str) -> bool:
    if not output.endswith(("/", os.sep)):
        return os.path.isdir(output)
    if os.path.isfile(output.rstrip("/" + os.sep)):
        raise bad_output(f"{output!r} is a file, not a folder.")
    return True


def _fields_of(template: str) -> set[str]:
    """Return the names in braces, and refuse unknown ones."""
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise bad_output(f"{template!r}: {error}; a brace that is meant is doubled.") from error
    for name in names:
        if name not in TEMPLATE_FIELDS:
            known = " ".join(f"{{{field}}}" for field in TEMPLATE_FIELDS)
            raise bad_output(f"there is no {{{name}}}; there are {known} (a brace that is meant is doubled).")
    return names


def _format_of_suffix(path: str) -> str | None:
    """Return the format of a file by its suffix; None if it has no suffix."""
    suffix = os.path.splitext(path)[1]
    if suffix in ("", "."):
        return None
    try:
        return format_of_suffix(path)
    except ImageError as error:
        raise bad_output(f"{error}; or name the format with -f.") from error


def _stdout_format(source: Source) -> str:
    """Return the format of a result on stdout where none is given.

    An array stays one, and a picture of a stream of PNM stays PNM; all else is PNG.
    """
    format = format_of(source)
    if format in ARRAY_FORMATS or (format == "ppm" and source.is_followed()):
        return format
    return "png"


EXISTING_FILE_RULES = ("refuse", "force", "skip-existing", "if-newer")
"""The rules for outputs that exist; see `plan_targets`."""

_SKIPPING = ", --skip-existing leaves it out, --if-newer replaces it if it is older than its input"


class Targets(list[Target]):
    """The targets of the sources of a run, and the rules for those of further pictures of a stream.

    Parameters
    ----------
    naming : Naming
    existing : str
        One of `EXISTING_FILE_RULES`.
    sources : sequence of Source
    targets : sequence of Target
        Those of the sources, if each source is one picture.
    can_skip : bool
        Whether the command has the options that leave results out.
    """

    def __init__(
        self, naming: Naming, existing: str, sources: Sequence[Source], targets: Sequence[Target], can_skip: bool
    ) -> None:
        super().__init__(targets)
        self._skipping = _SKIPPING if can_skip else ""
        self._naming = naming
        self._existing = existing
        if "index" in naming.fields:  # after a stream, the numbers may be others
            first_stream = next((at for at, source in enumerate(sources) if source.is_stream), len(targets))
            targets = targets[: first_stream + 1]
        self._paths = {os.path.realpath(target.path) for target in targets if target.path != STDOUT}

    def further(self, source: Source, index: int) -> Target:
        """Return the target of a picture that was not known when the others were planned; its number is `index`.

        Raises
        ------
        click.ClickException
            It exists, and may not be replaced; or it is the target of another picture.
        """
        target = self._naming.target(source, index)
        if target.path == STDOUT:
            return target
        path = os.path.realpath(target.path)
        if path in self._paths and target.is_file:
            raise bad_output(f"{target.name!r} is the result of another picture.")
        self._paths.add(path)
        if _is_in_the_way(source, target, self._existing):
            raise click.ClickException(f"{target.path}: exists already; --force replaces it{self._skipping}")
        return target


def plan_targets(
    sources: Sequence[Source], naming: Naming, *, existing: str = "refuse", can_skip: bool = True
) -> Targets:
    """Return the target of every source, before any work begins.

    Parameters
    ----------
    existing : str
        The rule for outputs that exist: ``refuse`` the whole run, replace them (``force``), skip their inputs
        (``skip-existing``), or replace those that are older than their inputs and skip the others (``if-newer``).
    can_skip : bool
        Whether the command has the options of the last two.

    Raises
    ------
    click.UsageError
        Two inputs have the same output, or an output is another input, or its folder does not exist.
    click.ClickException
        An output exists, and `existing` is ``refuse``.
    """
    targets = [naming.target(source, source.number_of_input or index) for index, source in enumerate(sources, 1)]
    for target in targets:
        _refuse_bad_name(target.path)
    _refuse_shared(sources, targets)
    _refuse_streams_to_one_file(sources, targets, naming)
    if naming.to_stdout and existing in ("skip-existing", "if-newer"):
        raise click.UsageError(f"--{existing} is about files, and the result goes to stdout: name a file with -o.")
    in_the_way = [
        target.path
        for source, target in zip(sources, targets, strict=True)
        if target.path != STDOUT and _is_in_the_way(source, target, existing)
    ]
    if in_the_way:
        more = f" (and {len(in_the_way) - 1} more)" if len(in_the_way) > 1 else ""
        raise click.ClickException(
            f"{in_the_way[0]}: exists already{more}; --force replaces it{_SKIPPING if can_skip else ''}"
        )
    return Targets(naming, existing, sources, targets, can_skip)


def _is_in_the_way(source: Source, target: Target, existing: str) -> bool:
    """Return whether a file exists that may not be replaced; else note whether it is replaced or left."""
    target.force = existing == "force"
    if not os.path.lexists(target.path):
        _refuse_missing_folder(target)
    elif os.path.isdir(target.path):
        raise bad_output(f"{target.path!r} is a folder.")
    elif os.path.exists(target.path) and not os.path.isfile(target.path):
        target.force = True  # a device or a pipe is written to, not replaced
    elif existing == "refuse":
        return True
    elif existing == "skip-existing":
        target.skip_reason = "exists already"
    elif existing == "if-newer":
        target.force = _is_newer(source.path, target.path)
        target.skip_reason = None if target.force else "is not older than its input"
    return False


def _refuse_streams_to_one_file(sources: Sequence[Source], targets: Sequence[Target], naming: Naming) -> None:
    for source, target in zip(sources, targets, strict=True):
        if "index" not in naming.fields and target.is_file and source.is_stream and source.is_followed():
            raise bad_output(
                f"{source.name!r} holds several pictures, and all of them would be written to {target.name!r}; "
                "a template such as 'out/{index}.{ext}' keeps them apart."
            )


def _is_newer(source: str, target: str) -> bool:
    """Return whether a file was changed after another one.

    Standard input counts as newer, and so does a file whose time cannot be read, because reading it reports why.
    """
    try:
        return source == STDIN or os.stat(source).st_mtime_ns > os.stat(target).st_mtime_ns
    except OSError:
        return True


def _refuse_bad_name(path: str) -> None:
    if not ON_WINDOWS:
        return
    from cnnfilter.jobs.sorting import part_without_name

    part = part_without_name(path)
    if part is not None:
        raise bad_output(f"{path!r}: {part!r} cannot be the name of a file or folder on Windows.")


def _refuse_missing_folder(target: Target) -> None:
    folder = os.path.dirname(target.path)
    if folder and not target.make_folder and not os.path.isdir(folder):
        raise bad_output(f"there is no folder {folder!r}.")


def _refuse_shared(sources: Sequence[Source], targets: Sequence[Target]) -> None:
    if len(sources) < 2:
        return
    from cnnfilter.jobs.sorting import names_of_files

    names = names_of_files([*(source.path for source in sources), *(target.path for target in targets)])
    sources_by_path = {names[source.path]: source for source in sources if source.path != STDIN}
    sources_by_target: dict[str, Source] = {}
    for source, target in zip(sources, targets, strict=True):
        if source.error is not None:  # it cannot be read, so nothing is written
            continue
        path = names[target.path]
        if path in sources_by_target:
            raise bad_output(
                f"{sources_by_target[path].name!r} and {source.name!r} would both be written to {target.name!r}; "
                "a template such as '{dir}/{stem}-{index}.{ext}' keeps them apart."
            )
        sources_by_target[path] = source
        other = sources_by_path.get(path)
        if other is not None and other is not source:
            raise bad_output(f"the result of {source.name!r} would replace {target.name!r}, another input.")


def refuse_existing(path: str, force: bool) -> None:
    """Refuse a file that exists, unless `force` is true, a path that is a folder, and a name that cannot be."""
    _refuse_bad_name(path)
    if os.path.isdir(path):
        raise click.ClickException(f"{path}: is a folder")
    if os.path.lexists(path) and not force:
        raise click.ClickException(f"{path}: exists already; --force replaces it")


def refuse_missing_folder(path: str) -> None:
    """Refuse a file in a folder that does not exist."""
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        raise click.ClickException(f"{path}: there is no folder {folder!r}")


def write_picture(path: str, image: Image | NDArray[Any], *, force: bool) -> None:
    """Write an image file; raise a `click.ClickException` if it exists and `force` is false."""
    from cnnfilter.images.files import write_image

    try:
        write_image(path, image, force=force)
    except FileExistsError as error:
        raise click.ClickException(f"{path}: {reason(error)}") from None
