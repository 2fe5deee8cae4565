"""``cnnfilter train``: a classifier from a folder of pictures."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cnnfilter.cli import options, output_files
from cnnfilter.cli.messages import one_line
from cnnfilter.cli.options import Duration, Positive, Shape, Share
from cnnfilter.cli.reports import training as training_report
from cnnfilter.cli.reports.layer_table import table

if TYPE_CHECKING:
    from cnnfilter.training.data.dataset import Dataset
    from cnnfilter.training.train import Trained

HELP = """\
Make a classifier of labelled pictures, and say how good it is on pictures that it did not learn from.

A few dozen pictures of each class will do: the network that comes with cnnfilter looks at them as it is, and only a
last layer is learned, its strength chosen by cross-validation. With --layers a network learns from nothing, which
takes thousands of pictures; LAYERS are written as for `describe`, and end with one number for each class.

DATA is a folder of class folders, perhaps parted into train, val and test; a CSV of path,label; IDX files (MNIST's
format) or their folder; or an .npz of images and labels. Without a validation split a fifth of every class is held
back. Nothing is written into DATA.

A network from nothing keeps MODEL.checkpoint while it learns: after an interruption --resume goes on from there, to
the very same model. The same seed gives the same file on every run and for any number of threads.

\b
Examples:
  cnnfilter train photos/ -o pets.safetensors
  cnnfilter classify -m pets.safetensors new.jpg
  cnnfilter train photos/ -o pets.safetensors --augment flip,crop:0.8 --dry-run
  cnnfilter train mnist/ -o digits.safetensors --epochs 5 \\
      --layers 'conv 16x3x3 | relu | maxpool 2 | conv 32x3x3 | relu | maxpool 2 | flatten | dense 10'
  cnnfilter describe digits.safetensors --filters what-it-learned.png
"""


_FROM_NOTHING = (
    click.option("--layers", metavar="LAYERS", help="A network to learn from nothing."),
    click.option(
        "--input",
        type=Shape(),
        metavar="HxWxC",
        help="What pictures are fitted to.  [default: their size if small, else 64x64]",
    ),
    click.option(
        "--epochs",
        type=options.Count(),
        default=10,
        show_default=True,
        metavar="N",
        help="How often every picture is seen.",
    ),
    click.option(
        "--batch", type=options.Count(), default=128, show_default=True, metavar="N", help="Pictures at once."
    ),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "sgd"]),
        default="adamw",
        show_default=True,
        help="sgd has momentum 0.9.",
    ),
    click.option("--rate", type=Positive(), help="The highest learning rate.  [default: 0.003; sgd: 0.05]"),
    click.option(
        "--weight-decay",
        type=Positive(zero=True),
        help="How strongly kernels are drawn to 0.  [default: 0.02; sgd: 0.0005]",
    ),
    click.option(
        "--schedule",
        type=click.Choice(["one-cycle", "cosine", "constant"]),
        default="one-cycle",
        show_default=True,
        help="The rate over time.",
    ),
    click.option(
        "--label-smoothing",
        type=Positive(zero=True, end=1),
        default=0.0,
        show_default=True,
        help="The share of a label that goes to all classes.",
    ),
    click.option(
        "--patience",
        type=options.Count(),
        metavar="N",
        help="Stop after N epochs that were no better on the validation pictures.",
    ),
    click.option("--time-limit", type=Duration(), metavar="T", help="Be through by then: 90s, 10m, 2h."),
    click.option(
        "--init",
        type=click.Choice(["random", "kernels"]),
        default="random",
        show_default=True,
        help="kernels: the first layer starts from sobel-h and others.",
    ),
    click.option("--resume", is_flag=True, help="Go on after an interruption."),
    click.option("--log", type=click.Path(), metavar="FILE", help="A line for each epoch, as CSV."),
)


def from_nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of networks from nothing."""
    for option in reversed(_FROM_NOTHING):
        function = option(function)
    return function


@click.command("train", help=HELP, short_help="Make a classifier of labelled pictures.")
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="MODEL", required=True, help="The model file, .safetensors.")
@click.option(
    "--augment",
    metavar="KINDS",
    default="",
    help="Change training pictures: flip, shift:0.1, rotate:10, crop:0.8, brightness:0.2, erase:0.4, joined by commas.",
)
@click.option(
    "--class-weights",
    type=click.Choice(["auto", "balanced", "none"]),
    default="auto",
    show_default=True,
    help="Whether every class counts the same; auto: if they are more than 3:1.",
)
@click.option(
    "--validation", type=Share(), metavar="P", default="0.2", show_default=True, help="The share to hold back."
)
@click.option("--classes", metavar="NAMES", help="Names for numbered classes, with commas between.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that is drawn.")
@from_nothing
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw epochs and confusions (needs the extra 'plot').")
@click.option("--dry-run", is_flag=True, help="Only say what there is and what would be done.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@training_report.common
def command(
    data: str,
    output: str,
    validation: float,
    classes: str | None,
    seed: int,
    resume: bool,
    log: str | None,
    plot: str | None,
    dry_run: bool,
    force: bool,
    threads: int | None,
    max_pixels: int | None,
    quiet: bool,
    **how: Any,
) -> None:
    _refuse_idle(how["layers"])
    _check_files(output, log, plot, force or dry_run)
    _check_texts(how)
    checkpoint = f"{output}.checkpoint" if how["layers"] is not None else None
    if checkpoint and os.path.exists(checkpoint) and not (resume or force or dry_run):
        raise click.ClickException(
            f"{checkpoint}: a training was interrupted; --resume goes on with it, --force begins anew"
        )

    from cnnfilter.training.data.dataset import load_folder
    from cnnfilter.training.train import train

    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    dataset = load_folder(data, validation=validation, seed=seed, **limit)
    if classes is not None:
        with options.about("'--classes'"):
            dataset = dataset.renamed([name.strip() for name in classes.split(",")])
    if not quiet or dry_run:
        click.echo("\n".join(map(one_line, described(dataset))), err=True)
    training_report.list_skipped(dataset.skipped, quiet)
    dataset.check()
    if not quiet or dry_run:
        click.echo("\n".join(map(one_line, planned(dataset, threads=threads, **how))), err=True)
    if dry_run:
        return
    with _saying_how_to_go_on(checkpoint), training_report.Bar(quiet=quiet, log=log) as bar:
        trained = train(dataset, seed=seed, checkpoint=checkpoint, resume=resume, threads=threads, watcher=bar, **how)
    training_report.list_skipped(trained.dataset.skipped[len(dataset.skipped) :], quiet)
    trained.save(output, force=force)
    if checkpoint and trained.failure is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(checkpoint)
    _report(trained, quiet)
    if plot:
        training_report.draw(plot, trained.evaluation, trained.history, force=force)
    if not quiet:
        click.echo(f"{one_line(output)}: {os.path.getsize(output):,} bytes", err=True)
    if trained.failure is not None:
        raise click.ClickException(f"{trained.failure}; {output} is the model of epoch {trained.best}, the best before")


# --- before any work -------------------------------------------------------------------------------------


def _refuse_idle(layers: str | None) -> None:
    """Refuse options of networks from nothing where there is none."""
    if layers is not None:
        return
    context = click.get_current_context()
    names = [parameter.name or "" for parameter in context.command.params]
    mine = {option.name: option for option in context.command.params if option.name in _IDLE_WITHOUT_LAYERS}
    for name in names:
        if name in mine and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{mine[name].opts[0]} belongs to --layers, which is not given.")


_IDLE_WITHOUT_LAYERS = frozenset(
    [
        "input",
        "epochs",
        "batch",
        "optimizer",
        "rate",
        "weight_decay",
        "schedule",
        "label_smoothing",
        "patience",
        "time_limit",
        "init",
        "resume",
        "log",
    ]
)


def _check_files(output: str, log: str | None, plot: str | None, force: bool) -> None:
    if not output.endswith(".safetensors"):
        raise click.BadParameter(
            f"{output!r} does not end in .safetensors, as model files do.", param_hint="'-o' / '--output'"
        )
    for path in filter(None, (output, log, plot)):
        output_files.refuse_existing(path, force or (path == log and click.get_current_context().params["resume"]))
        output_files.refuse_missing_folder(path)
    if plot:
        training_report.need_matplotlib()


def _check_texts(how: dict[str, Any]) -> None:
    """Read what is written in a grammar of its own, so that it is refused before anything else."""
    with options.about("'--augment'"):
        from cnnfilter.training.augmentation import parse_augmentation

        parse_augmentation(how["augment"])
    if how["layers"] is not None:
        with options.about("'--layers'"):
            from cnnfilter.layers.stack import parse_layers

            how["layers"] = parse_layers(how["layers"])


@contextlib.contextmanager
def _saying_how_to_go_on(checkpoint: str | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if checkpoint and os.path.exists(checkpoint):
            click.echo(one_line(f"interrupted; the same command with --resume goes on from {checkpoint}"), err=True)
        raise


# --- what there is and what would be done ------------------------------------------------------------------


def described(dataset: Dataset) -> list[str]:
    """Say what was found: the splits, and the pictures of each class."""
    from cnnfilter.cli.reports.evaluation import aligned

    how = {"validation": " (held back)"} if dataset.held_back else {}
    parts = [f"{len(part):,} {split}{how.get(split, '')}" for split, part in dataset.splits.items()]
    lines = [f"{dataset.name}: {len(dataset):,} pictures of {len(dataset.classes)} classes: {', '.join(parts)}"]
    if len(dataset.classes) > _MOST_CLASSES:
        return lines
    rows = [("class", *dataset.splits)]
    counts = [part.counts(len(dataset.classes)) for part in dataset.splits.values()]
    for number, name in enumerate(dataset.classes):
        rows.append((name, *(f"{count[number]:,}" for count in counts)))
    return [*lines, *aligned(rows)]


_MOST_CLASSES = 40
"""Of which the pictures are counted on the screen."""


def planned(dataset: Dataset, *, layers: Any, threads: int | None, **how: Any) -> list[str]:
    """Say what would be trained, how large it is, and about how long that takes.

    It fills in the shape of the input where the pictures say it.
    """
    from cnnfilter.training.augmentation import parse_augmentation

    changes = str(parse_augmentation(how["augment"]))
    more = f", augmented by {changes}" if changes else ""
    if layers is None:
        from cnnfilter.networks.network import load_model
        from cnnfilter.training.head import CHANGED_COPIES_PER_PICTURE, seconds_for

        body = load_model()
        features = math.prod(list(body.layers.shapes(body.input_shape))[body.head])
        looks = len(dataset) + (CHANGED_COPIES_PER_PICTURE * len(dataset.train) if changes else 0)
        size = (features + 1) * len(dataset.classes)
        seconds = seconds_for(body, dataset, looks, threads)
        return [
            f"a head on {body.name}: dense {len(dataset.classes)} on {features:,} features, {size:,} parameters{more}",
            f"about {_clock(seconds)}",
        ]
    from cnnfilter.layers.summary import summarize
    from cnnfilter.training.data.decoded import find_shape
    from cnnfilter.training.network import Settings, check_settings
    from cnnfilter.training.network import seconds_for as seconds_for_network

    shape = how["input"] or find_shape(dataset.train)
    settings = Settings(layers, shape, how["epochs"], how["batch"])
    check_settings(settings, len(dataset.classes))
    seconds = seconds_for_network(settings, len(dataset.train), threads)
    limit = how["time_limit"]
    until = f", at most {_clock(limit)}" if limit is not None else ""
    epochs = f"{_count(how['epochs'], 'epoch')} of {_count(-(-len(dataset.train) // how['batch']), 'batch', 'batches')}"
    return [*table(summarize(layers, shape)), "", f"{epochs}{more}: about {_clock(seconds)}{until}"]


def _count(number: int, one: str, more: str = "") -> str:
    """Write so many of something.

    >>> _count(1, "epoch"), _count(1000, "epoch")
    ('1 epoch', '1,000 epochs')
    """
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _clock(seconds: float) -> str:
    """Write a time for people, in round numbers.

    >>> _clock(3.2), _clock(100), _clock(7000)
    ('4 s', '100 s', '117 min')
    """
    return f"{max(1, math.ceil(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} min"


# --- after it ----------------------------------------------------------------------------------------------


def _report(trained: Trained, quiet: bool) -> None:
    from cnnfilter.cli.reports.evaluation import report

    if trained.duplicates and not quiet:
        one = trained.duplicates[0]
        kind = "the same bytes as" if one.exact else "nearly the same picture as"
        click.echo(
            one_line(
                f"Warning: pictures in two splits, which flatters the verdict: {len(trained.duplicates):,}, such as "
                f"{one.one} ({one.split}) is {kind} {one.other} ({one.other_split})"
            ),
            err=True,
        )
    if trained.best and trained.best != len(trained.history) and not quiet:
        click.echo(f"the best of {len(trained.history)} epochs: {trained.best}", err=True)
    if trained.evaluation is None:
        click.echo("not judged: there are neither test nor validation pictures")
        return
    click.echo("\n".join(map(one_line, report(trained.evaluation, trained.judged_by))))
    if trained.judged_by == "validation" and trained.history:
        click.echo("(the best epoch was chosen by these pictures, which flatters it a little)")
