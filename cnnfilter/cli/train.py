"""``cnnfilter train``: a classifier from a folder of pictures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cnnfilter.cli import options, training_report
from cnnfilter.cli.evaluate import Share
from cnnfilter.cli.messages import one_line

if TYPE_CHECKING:
    from cnnfilter.dataset import Dataset
    from cnnfilter.training import Trained

HELP = """\
Make a classifier of labelled pictures, and say how good it is on pictures that it did not learn from.

A few dozen pictures of each class will do: the network that comes with cnnfilter looks at them as it is, and only a last
layer is learned, its strength chosen by cross-validation.

DATA is a folder of class folders, perhaps parted into train, val and test; a CSV of path,label; IDX files (MNIST's format)
or their folder; or an .npz of images and labels. Without a validation split a fifth of every class is held back. Nothing is
written into DATA.

\b
Examples:
  cnnfilter train photos/ -o pets.safetensors
  cnnfilter classify -m pets.safetensors new.jpg
  cnnfilter train photos/ -o pets.safetensors --dry-run
  cnnfilter train photos/ -o pets.safetensors --augment flip,crop:0.8
"""


@click.command("train", help=HELP, short_help="Make a classifier of labelled pictures.")
@click.argument("data", type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="MODEL", required=True, help="The model file, .safetensors.")
@click.option(
    "--augment",
    metavar="KINDS",
    default="",
    help="Change training pictures: flip, shift:0.1, rotate:10, crop:0.8, brightness:0.2, erase:0.4, with commas between.",
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
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of all that is drawn: the same file for the same seed.",
)
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw the confusion matrix (needs the extra 'plot').")
@click.option("--dry-run", is_flag=True, help="Only say what there is and what would be done.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@training_report.common
def command(
    data: str,
    output: str,
    augment: str,
    class_weights: str,
    validation: float,
    classes: str | None,
    seed: int,
    plot: str | None,
    dry_run: bool,
    force: bool,
    threads: int | None,
    max_pixels: int | None,
    quiet: bool,
) -> None:
    if not output.endswith(".safetensors"):
        raise click.BadParameter(
            f"{output!r} does not end in .safetensors, as model files do.", param_hint="'-o' / '--output'"
        )
    for path in filter(None, (output, plot)):
        training_report.refuse_existing(path, force or dry_run)
        training_report.refuse_missing_folder(path)
    with options.about("'--augment'"):
        from cnnfilter.augmentation import parse_augmentation

        parse_augmentation(augment)
    if plot:
        training_report.need_matplotlib()

    from cnnfilter.dataset import load_folder
    from cnnfilter.training import train

    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    dataset = load_folder(data, validation=validation, seed=seed, **limit)
    if classes is not None:
        with options.about("'--classes'"):
            dataset = dataset.renamed([name.strip() for name in classes.split(",")])
    if not quiet or dry_run:
        click.echo("\n".join(map(one_line, described(dataset))), err=True)
    training_report.list_skipped(dataset.skipped, quiet)
    dataset.check()
    if dry_run:
        return
    with training_report.Bar(quiet=quiet) as bar:
        trained = train(dataset, augment=augment, class_weights=class_weights, seed=seed, threads=threads, watcher=bar)
    training_report.list_skipped(trained.dataset.skipped[len(dataset.skipped) :], quiet)
    trained.save(output, force=force)
    _report(trained, quiet)
    if plot:
        training_report.draw(plot, trained.evaluation, force=force)
    if not quiet:
        click.echo(f"{one_line(output)}: {os.path.getsize(output):,} bytes", err=True)


def described(dataset: Dataset) -> list[str]:
    """Say what was found: the splits, and the pictures of each class."""
    from cnnfilter.evaluation import aligned

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


def _report(trained: Trained, quiet: bool) -> None:
    from cnnfilter.evaluation import report

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
    if trained.evaluation is None:
        click.echo("not judged: there are neither test nor validation pictures")
    else:
        click.echo("\n".join(map(one_line, report(trained.evaluation, trained.judged_by))))
