"""``cnnfilter train``: train a classifier on labelled pictures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options, output_files
from cnnfilter.cli.completion import complete_layers
from cnnfilter.cli.messages import print_lines, say
from cnnfilter.cli.options import Duration, Positive, Shape, Share
from cnnfilter.cli.reports.training import (
    ProgressBar,
    duplicate_lines,
    list_skipped,
    refuse_without_matplotlib,
    write_plot,
)
from cnnfilter.cli.reports.training_plan import dataset_lines, plan_lines

if TYPE_CHECKING:
    from cnnfilter.layers.stack import Layers
    from cnnfilter.training.train import Trained

HELP = """\
Train a classifier on labelled pictures, and say how good it is on pictures that it was not trained on.

A few dozen pictures of each class are enough: the network that comes with cnnfilter is used as it is, and only a new
last layer is trained, with a regularization that is chosen by cross-validation. With --layers, a whole network is
trained from random weights, which takes thousands of pictures. LAYERS are written as for `describe`, and end with one
number for each class, or with 'dense 1 | sigmoid' for two classes. After 'dense N | sigmoid' each of the N labels has
a probability by itself, and those of a picture need not sum to 1.

DATA is a folder of class folders, which may be divided into train, val and test; a table of path,label (a CSV file,
also one-hot); IDX files (the format of MNIST) or their folder; or an .npz file of images and labels. Without a
validation split, a fifth of every class is held back. Nothing is written into DATA.

Float pictures (.npz, .npy, TIFF) have one scale: 0 to 1, 0 to 255 or 0 to 65535, whichever all of them fit; it is
printed, and kept in the model. --scale names another one, such as --scale -0.5,0.5.

The columns of a table are found by their names and by the files that they name, and are printed. --columns says which
they are where that is not clear; --root is the folder that paths start from; --suffix is what they lack.

With --layers, the training keeps a file MODEL.checkpoint. After an interruption, --resume continues from it, and
gives the very same model. The same seed gives the same file in every run and with any number of threads.

\b
Examples:
  cnnfilter train photos/ -o pets.safetensors
  cnnfilter classify -m pets.safetensors new.jpg
  cnnfilter train photos/ -o pets.safetensors --augment flip,crop:0.8 --dry-run
  cnnfilter train mnist/ -o digits.safetensors --epochs 5 \\
      --layers 'conv 16x3x3 | relu | maxpool 2 | conv 32x3x3 | relu | maxpool 2 | flatten | dense 10'
  cnnfilter describe digits.safetensors --filters what-it-learned.png
"""


@click.command("train", help=HELP, short_help="Train a classifier on labelled pictures.")
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="MODEL", required=True, help="The model file, .safetensors.")
@click.option(
    "--augment",
    metavar="KINDS",
    default="",
    help="Random changes of the training pictures, with commas between: flip, shift:0.1, rotate:10, crop:0.8, "
    "brightness:0.2, erase:0.4.",
)
@click.option(
    "--class-weights",
    type=click.Choice(["auto", "balanced", "none"]),
    default="auto",
    show_default=True,
    help="balanced lets every class count the same, however many pictures it has; auto does so where one class has "
    "more than 3 times as many as another.",
)
@click.option(
    "--validation",
    type=Share(),
    metavar="P",
    default="0.2",
    show_default=True,
    help="Share of the pictures to hold back if DATA has no validation split.",
)
@click.option("--classes", metavar="NAMES", help="Names for numbered classes, with commas between.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all random numbers.")
@click.option(
    "--layers",
    metavar="LAYERS",
    shell_complete=complete_layers,
    help="Train a network of these layers from random weights.",
)
@click.option(
    "--input",
    type=Shape(),
    metavar="HxWxC",
    help="Shape that pictures are resized to.  [default: their size if small, else 64x64]",
)
@click.option(
    "--epochs",
    type=options.Count(),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of passes over the training pictures.",
)
@click.option(
    "--batch", type=options.Count(), default=128, show_default=True, metavar="N", help="Number of pictures in a batch."
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "sgd"]),
    default="adamw",
    show_default=True,
    help="Optimizer; sgd has momentum 0.9.",
)
@click.option("--rate", type=Positive(), help="The highest learning rate.  [default: 0.003; sgd: 0.05]")
@click.option(
    "--weight-decay",
    type=Positive(zero=True),
    help="Strength of the weight decay of kernels.  [default: 0.02; sgd: 0.0005]",
)
@click.option(
    "--schedule",
    type=click.Choice(["one-cycle", "cosine", "constant"]),
    default="one-cycle",
    show_default=True,
    help="Schedule of the learning rate.",
)
@click.option(
    "--label-smoothing",
    type=Positive(zero=True, end=1),
    default=0.0,
    show_default=True,
    help="Share of each label that is spread over all classes.",
)
@click.option(
    "--patience",
    type=options.Count(),
    metavar="N",
    help="Stop after N epochs without an improvement on the validation pictures.",
)
@click.option("--time-limit", type=Duration(), metavar="T", help="End the training within this time: 90s, 10m, 2h.")
@click.option(
    "--init",
    type=click.Choice(["random", "kernels"]),
    default="random",
    show_default=True,
    help="Initial weights; with kernels, the first layer starts from sobel-h and other named kernels.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training.")
@click.option("--log", type=click.Path(), metavar="FILE", help="Write a CSV file with a line for each epoch.")
@click.option(
    "--plot",
    type=click.Path(),
    metavar="FILE",
    help="Draw the epochs and the confusion matrix (needs the extra 'plot').",
)
@click.option("--dry-run", is_flag=True, help="Print only what was found and what would be trained.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@options.dataset_options
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
    max_pixels: int,
    columns: list[str] | None,
    root: str | None,
    suffix: str,
    scale: tuple[float, float] | None,
    axes: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    if settings["layers"] is None and (option := options.first_given(_NETWORK_PARAMETERS)):
        raise options.needs(option, "--layers")
    _check_files(output, log, plot, force or dry_run, resume)
    settings["layers"] = _check_texts(settings["augment"], settings["layers"])
    checkpoint = f"{output}.checkpoint" if settings["layers"] is not None else None
    if not (resume or force or dry_run):
        _refuse_interrupted(checkpoint)

    from cnnfilter.training.data.dataset import load_folder
    from cnnfilter.training.train import train

    dataset = load_folder(
        data,
        validation=validation,
        seed=seed,
        max_pixels=max_pixels,
        columns=columns,
        root=root,
        suffix=suffix,
        scale=scale,
        axes=axes,
    )
    options.refuse_unused_scale(scale, dataset)
    if classes is not None:
        with options.errors_about("'--classes'"):
            dataset = dataset.renamed([name.strip() for name in classes.split(",")])
    if not quiet or dry_run:
        print_lines(dataset_lines(dataset), err=True)
    list_skipped(dataset.skipped, quiet)
    dataset.check()
    if not quiet or dry_run:
        print_lines(plan_lines(dataset, threads=threads, **settings), err=True)
    if dry_run:
        return
    with _telling_how_to_resume(checkpoint), ProgressBar(quiet=quiet, log=log) as bar:
        trained = train(
            dataset, seed=seed, checkpoint=checkpoint, resume=resume, threads=threads, watcher=bar, **settings
        )
    list_skipped(trained.dataset.skipped[len(dataset.skipped) :], quiet)
    trained.save(output, force=force)
    if checkpoint and trained.failure is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(checkpoint)
    _report(trained, quiet)
    if plot:
        write_plot(plot, trained.evaluation, trained.history, force=force)
    if not quiet:
        say(output, f"{os.path.getsize(output):,} bytes")
    if trained.failure is not None:
        raise click.ClickException(f"{trained.failure}; {output} is the model of epoch {trained.best}, the best before")


# --- before any work -------------------------------------------------------------------------------------

_NETWORK_PARAMETERS = (
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
)
"""The parameters that have no meaning without ``--layers``."""


def _check_files(output: str, log: str | None, plot: str | None, force: bool, resume: bool) -> None:
    if not output.endswith(".safetensors"):
        raise output_files.bad_output(f"{output!r} does not end in .safetensors, as model files do.")
    for path in filter(None, (output, log, plot)):
        output_files.refuse_existing(path, force or (path == log and resume))
        output_files.refuse_missing_folder(path)
    if plot:
        refuse_without_matplotlib()


def _check_texts(augment: str, layers: str | None) -> Layers | None:
    """Return the layers, and refuse a wrong text of either option before any work."""
    with options.errors_about("'--augment'"):
        from cnnfilter.training.augmentation import parse_augmentation

        parse_augmentation(augment)
    if layers is None:
        return None
    with options.errors_about("'--layers'"):
        from cnnfilter.layers.stack import parse_layers

        return parse_layers(layers)


def _refuse_interrupted(checkpoint: str | None) -> None:
    if checkpoint and os.path.exists(checkpoint):
        raise click.ClickException(
            f"{checkpoint}: a training was interrupted; --resume goes on with it, --force begins anew"
        )


@contextlib.contextmanager
def _telling_how_to_resume(checkpoint: str | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        if checkpoint and os.path.exists(checkpoint):
            stop.__notes__ = []  # the work is not lost
            say(f"interrupted; the same command with --resume goes on from {checkpoint}")
        raise


# --- after it ----------------------------------------------------------------------------------------------


def _report(trained: Trained, quiet: bool) -> None:
    from cnnfilter.cli.reports.evaluation import evaluation_lines

    if not quiet:
        _print_notes(trained)
    if trained.evaluation is None:
        click.echo("not judged: there are neither test nor validation pictures")
        return
    print_lines(evaluation_lines(trained.evaluation, trained.judged_by))
    if trained.judged_by == "validation" and trained.history:
        click.echo("(the best epoch was chosen by these pictures, which flatters it a little)")


def _print_notes(trained: Trained) -> None:
    for line in duplicate_lines(trained.duplicates, trained.dataset.classes):
        say("Warning", line)
    if trained.best and trained.best != len(trained.history):
        click.echo(f"the best of {len(trained.history)} epochs: number {trained.best}", err=True)
