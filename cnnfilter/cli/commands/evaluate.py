"""``cnnfilter evaluate``: judge a model by labelled pictures, and calibrate it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cnnfilter.cli import options, output_files
from cnnfilter.cli.completion import complete_model
from cnnfilter.cli.messages import EXIT_CHECK_FAILED, json_line, print_lines, say
from cnnfilter.cli.options import Share
from cnnfilter.cli.reports.training import ProgressBar, list_skipped, refuse_without_matplotlib, write_plot

if TYPE_CHECKING:
    from cnnfilter.networks.model_file import Calibration
    from cnnfilter.training.data.dataset import Dataset
    from cnnfilter.training.evaluation import Evaluation

HELP = """\
Say how good a model is: its accuracy with a 95 % confidence interval, beside the accuracy of always saying the most
frequent class; precision, recall and F1 of every class; the confusion matrix; and the mistakes with the highest
probabilities.

MODEL is a model file, or the name of a model that comes with cnnfilter. DATA is written as for `train`, with classes
that the model knows: a folder of class folders, a CSV file, IDX files or an .npz file. If DATA has splits, its test
pictures are used, else its validation pictures. The result means something only for pictures that the model was not
trained on: in a folder without splits, --split validation selects those that `train` held back. A model keeps digests
of up to 4096 of its training pictures; how many of the pictures are among them is said.

--calibrate finds the temperature at which the probabilities agree best with the truth, and the probability below
which 'unknown' is the better answer (so that 95 of 100 right answers are kept). Both are written into MODEL, or
into a copy that -o names, and `classify` uses them.

\b
Examples:
  cnnfilter evaluate pets.safetensors photos/
  cnnfilter evaluate pets.safetensors photos/ --errors mistakes/
  cnnfilter evaluate pets.safetensors photos/ --json | jq .accuracy
  cnnfilter evaluate pets.safetensors photos/ --min-accuracy 0.9 || echo 'not good enough'
  cnnfilter evaluate pets.safetensors photos/ --split validation --calibrate
"""


@click.command("evaluate", help=HELP, short_help="Say how good a model is on labelled pictures.")
@click.argument("model", shell_complete=complete_model)
@click.argument("data", type=click.Path())
@click.option("--split", type=click.Choice(["train", "validation", "test", "all"]), help="The pictures of DATA to use.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed with which `train` held pictures back.")
@click.option(
    "--validation",
    type=Share(),
    metavar="P",
    default="0.2",
    show_default=True,
    help="The share of the pictures that `train` held back.",
)
@click.option("--classes", metavar="NAMES", help="Names for numbered classes, with commas between.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the tables.")
@click.option(
    "--errors",
    type=click.Path(),
    metavar="DIR",
    help="Draw the mistakes on contact sheets in DIR, the highest probabilities first.",
)
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw the confusion matrix (needs the extra 'plot').")
@click.option("--calibrate", is_flag=True, help="Write temperature and threshold into the model.")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="For --calibrate: leave MODEL as it is, and write this new model file.",
)
@click.option("--min-accuracy", type=Share(), metavar="P", help="Exit with 4 if the accuracy is below P.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@options.dataset_options
def command(
    model: str,
    data: str,
    split: str | None,
    seed: int,
    validation: float,
    classes: str | None,
    as_json: bool,
    errors: str | None,
    plot: str | None,
    calibrate: bool,
    output: str | None,
    min_accuracy: float | None,
    force: bool,
    threads: int | None,
    max_pixels: int,
    columns: list[str] | None,
    root: str | None,
    suffix: str,
    scale: tuple[float, float] | None,
    axes: str | None,
    quiet: bool,
) -> None:
    if output and not calibrate:
        raise options.needs("-o", "--calibrate")
    for path in filter(None, (output, plot, errors and _sheet(errors, 1))):
        output_files.refuse_existing(path, force)
    for path in filter(None, (output, plot)):  # the folder of --errors is made
        output_files.refuse_missing_folder(path)
    with options.errors_about("'MODEL'"):
        source = _file_to_write(model, output) if calibrate else ""
    network = options.load_network(model)
    if plot:
        refuse_without_matplotlib()

    from cnnfilter.cli.reports.evaluation import evaluation_lines, evaluation_record, trained_text
    from cnnfilter.training.data.dataset import load_folder
    from cnnfilter.training.evaluation import choose_examples, evaluate

    # Without --split, all pictures of a folder without splits are judged.
    share = validation if split in ("validation", "train") else 0.0
    dataset = load_folder(
        data,
        validation=share,
        seed=seed,
        max_pixels=max_pixels,
        columns=columns,
        root=root,
        suffix=suffix,
        scale=scale or network.preparation.scale,
        axes=axes,
    )
    options.refuse_unused_scale(scale, dataset)
    if classes is not None:
        with options.errors_about("'--classes'"):
            dataset = dataset.renamed([name.strip() for name in classes.split(",")])
    examples = choose_examples(dataset, split)
    with ProgressBar(quiet=quiet) as bar:
        bar.begin("pictures", len(examples))
        evaluation = evaluate(network, dataset, split=split, threads=threads, advance=bar.advance)
    if not quiet and (decisions := _decisions(dataset, evaluation)):
        print_lines(decisions, err=True)
    list_skipped(evaluation.skipped, quiet)
    flattered = trained_text(evaluation)
    if flattered and not quiet:
        say("Warning", flattered)
    if as_json:
        click.echo(json_line(evaluation_record(evaluation)))
    else:
        print_lines(evaluation_lines(evaluation, _split_to_name(dataset, examples)))
        if flattered and quiet:
            click.echo(f"({flattered})")
    if errors:
        _draw_mistakes(evaluation, errors, force, quiet)
    if plot:
        write_plot(plot, evaluation, force=force)
    if calibrate:
        _calibrate(evaluation.calibrated(), source, output or source, force or not output, quiet)
    if min_accuracy is not None and evaluation.accuracy < min_accuracy:
        raise click.exceptions.Exit(EXIT_CHECK_FAILED)


def _decisions(dataset: Dataset, evaluation: Evaluation) -> list[str]:
    """Return lines about a table of labels, the scale of floats, and numbers that stand for classes of the model."""
    lines = [line for line in (dataset.decisions, dataset.axes_note, dataset.scale_note) if line]
    if dataset.indexed and not set(dataset.classes) <= set(evaluation.classes):
        pairs = [f"{number} = {evaluation.classes[int(number)]}" for number in dataset.classes[:_LISTED_NUMBERS_MAX]]
        more = ", ..." if len(dataset.classes) > _LISTED_NUMBERS_MAX else ""
        lines.append(f"labels are numbers of the model's classes: {', '.join(pairs)}{more}")
    return lines


_LISTED_NUMBERS_MAX = 12
"""Numbers of classes that are listed with the names that they stand for."""


def _split_to_name(dataset: Dataset, examples: object) -> str:
    """Return the name of the split that is judged; "" for all pictures of the dataset."""
    if not dataset.held_back and len(dataset.splits) <= 1:
        return ""
    return next((name for name, part in dataset.splits.items() if part is examples), "")


def _file_to_write(model: str, output: str | None) -> str:
    from cnnfilter import weights
    from cnnfilter.errors import ModelError

    if model in weights.NAMES and not output:
        raise ModelError(f"{model} comes with cnnfilter and stays as it is; -o FILE writes a calibrated copy")
    return weights.path_of(model) if model in weights.NAMES else model


def _calibrate(calibration: Calibration, source: str, target: str, force: bool, quiet: bool) -> None:
    import dataclasses

    from cnnfilter.networks.model_file import read_model, stored_dtype, write_model
    from cnnfilter.runtime.atomic_files import replace_file

    model = dataclasses.replace(read_model(source), calibration=calibration)
    with replace_file(target, force=force) as file:
        write_model(file, model, dtype=stored_dtype(source))
    if not quiet:
        say(target, f"temperature {calibration.temperature:.3g}, unknown below {calibration.threshold:.1%}")


_MISTAKES_PER_SHEET = 60
"""Pictures on a sheet of mistakes: with tiles of 128 pixels it fits on a screen. Chosen by eye."""


def _sheet(folder: str, number: int) -> str:
    return os.path.join(folder, "errors.png" if number == 1 else f"errors-{number}.png")


def _draw_mistakes(evaluation: Evaluation, folder: str, force: bool, quiet: bool) -> None:
    from cnnfilter.images.contact_sheets import picture_sheet
    from cnnfilter.networks.preparation import as_picture

    wrong = evaluation.mistakes()
    os.makedirs(folder, exist_ok=True)
    for start in range(0, len(wrong), _MISTAKES_PER_SHEET):
        part = wrong[start : start + _MISTAKES_PER_SHEET]
        tiles = [
            (
                f"{mistake.answer} {mistake.probability:.0%}",
                f"is {mistake.truth}",
                as_picture(evaluation.samples.read(mistake.index)),
            )
            for mistake in part
        ]
        path = _sheet(folder, start // _MISTAKES_PER_SHEET + 1)
        output_files.write_picture(path, picture_sheet(tiles), force=force)
        if not quiet:
            say(path, f"{len(part)} of {len(wrong)} mistakes")
    if not wrong and not quiet:
        click.echo("no mistakes to draw", err=True)
