"""``cnnfilter classify``: print the likeliest labels of pictures, or use them to select and sort files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.groups.coding_options import CodingOptions
from cnnfilter.cli.messages import EXIT_CHECK_FAILED, EXIT_FAILED, print_paths
from cnnfilter.cli.output_files import Naming, plan_targets
from cnnfilter.cli.read_only import MODEL_HINT, Inputs, inputs, model
from cnnfilter.cli.reports.labels import PictureLabels, label_printer
from cnnfilter.images.formats.detect import TEXT_FORMATS

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Job
    from cnnfilter.jobs.source_target import Source, Target
    from cnnfilter.networks.network import Network

HELP = """\
Say what is in pictures: the likeliest labels of each, with their probabilities. It works offline.

The network that comes with cnnfilter (EfficientNet-Lite0) knows the 1000 classes of ImageNet; -m names another one.
For one input the five likeliest labels are printed, for several inputs one line each. LABEL is the name of a class,
in upper or lower case, or a pattern such as '*cat'; --is, --only and --not may be repeated.

\b
Examples:
  cnnfilter classify photo.jpg
  cnnfilter classify -r photos --format csv > labels.csv
  cnnfilter classify photo.jpg --is '*cat' && echo 'a cat'
  cnnfilter classify -r photos --only espresso -0 | xargs -0 -r ls -l
  cnnfilter classify -r photos --sort-into sorted/ --threshold 0.5 --dry-run
  cnnfilter classify photo.jpg --heatmap why.png
  cat photo.jpg | cnnfilter convolve -k sharpen | cnnfilter classify
"""


@click.command("classify", help=HELP, short_help="Say what is in pictures.")
@model
@click.option(
    "--top", type=options.Count(), metavar="N", help="Number of labels.  [default: 5 for one input, 1 for several]"
)
@click.option(
    "--format",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="Format of the output; json (or --json) prints one object a line.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Print 'unknown' for a label whose probability is below P.  [default: the model's own, else 0]",
)
@click.option(
    "--is",
    "wanted",
    metavar="LABEL",
    multiple=True,
    help="Print nothing (with --json the labels); exit with 0 if every picture has this label, else with 4.",
)
@click.option("--only", metavar="LABEL", multiple=True, help="Print the paths of the pictures that have this label.")
@click.option(
    "--not", "unwanted", metavar="LABEL", multiple=True, help="Print the paths of the pictures that do not have it."
)
@click.option("--sort-into", metavar="DIR", type=click.Path(file_okay=False), help="Put each file into DIR/LABEL/.")
@click.option(
    "--copy",
    "transfer",
    flag_value="copy",
    help="Copy files for --sort-into (the default). No file is ever overwritten.",
)
@click.option("--move", "transfer", flag_value="move", help="Move files for --sort-into.")
@click.option("--link", "transfer", flag_value="link", help="Make symbolic links for --sort-into.")
@click.option(
    "--heatmap",
    metavar="FILE|DIR",
    type=click.Path(),
    help="Write each picture with a heat map of the regions that speak for its likeliest label.",
)
@click.option("--force", is_flag=True, help="Replace heat maps that exist.")
@options.add_options(CodingOptions.OPTIONS)
@options.scale
@inputs
def command(
    inputs: Inputs,
    model: str,
    top: int | None,
    format: str,
    threshold: float | None,
    wanted: tuple[str, ...],
    only: tuple[str, ...],
    unwanted: tuple[str, ...],
    sort_into: str | None,
    transfer: str | None,
    heatmap: str | None,
    force: bool,
    scale: tuple[float, float] | None,
    **settings: Any,
) -> None:
    coding = CodingOptions(**settings)
    if coding.given and heatmap is None:
        raise options.needs(coding.given, "--heatmap")
    asked = {"--is": wanted, "--only": only, "--not": unwanted, "--sort-into": sort_into}
    purpose = _purpose(asked)
    if inputs.json and options.first_given(["format"]) and format != "json":
        raise click.UsageError(f"--json and --format {format} contradict each other: give one.")
    _refuse_unused(purpose, format, transfer, inputs)
    sources = _sources(inputs, sort_into)
    targets = None if heatmap is None else _heatmap_targets(sources, heatmap, force)
    coding.check(sources, targets or [])
    network = options.load_network(model, MODEL_HINT, scale)
    folders = _folders(network, sort_into)
    labels = _labels(network, wanted or only or unwanted, purpose)
    alone = len(sources) == 1 and not sources[0].is_followed()
    count = top or (5 if alone and purpose is None else 1)
    printed_as = "json" if inputs.json else format if purpose is None else None
    print_labels = label_printer(printed_as, network, alone=alone) if printed_as else None
    answers: list[bool] = []

    def classify(job: Job) -> PictureLabels:
        return _classify(job, network, count, threshold)

    def use(job: Job) -> None:
        found = job.result
        is_one = any(label.label in labels for label in found.labels)
        if purpose == "--is":
            answers.append(is_one)
        elif purpose in ("--only", "--not") and is_one != (purpose == "--only"):
            return
        if sort_into is not None:
            found = _sort(found, folders, transfer or "copy", inputs)
        if print_labels is not None:
            print_labels(found)
        elif purpose in ("--only", "--not"):
            print_paths(found.path, inputs.end)

    all_read = inputs.run(
        sources,
        classify,
        use,
        targets=targets,
        settings=coding.parameters,
        plan_only=inputs.dry_run and purpose != "--sort-into",  # the folder of a picture follows from its label
        json_is_result=True,
        continuation="the same command goes on" if sort_into is not None else None,
    )
    if not all_read:
        raise click.exceptions.Exit(EXIT_FAILED)
    if not all(answers):
        raise click.exceptions.Exit(EXIT_CHECK_FAILED)


# --- what was asked ------------------------------------------------------------------------------------


def _purpose(asked: dict[str, Any]) -> str | None:
    given = [name for name, value in asked.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} cannot be asked together: one of them would do.")
    return given[0] if given else None


def _refuse_unused(purpose: str | None, format: str, transfer: str | None, inputs: Inputs) -> None:
    """Refuse an option that would have no effect."""
    unused = {
        "--format": format != "text" and purpose is not None and not inputs.json,
        "-0": inputs.end == "\0" and not inputs.from_list and purpose in (None, "--is") and not inputs.dry_run,
        f"--{transfer}": transfer is not None and purpose != "--sort-into",
    }
    needed = {"-0": "--files-from, --only, --not or --sort-into", f"--{transfer}": "--sort-into"}
    for name, is_unused in unused.items():
        if is_unused and name == "--format":
            raise click.UsageError(f"--format has no meaning beside {purpose}, which prints no labels.")
        if is_unused:
            raise options.needs(name, needed[name])


def _sources(inputs: Inputs, sort_into: str | None) -> list[Source]:
    sources = inputs.sources(leave_out=sort_into)
    if sort_into is not None and any(source.path == "-" for source in sources):
        raise click.UsageError("stdin has no name to be sorted under: name the files for --sort-into.")
    return sources


def _labels(network: Network, patterns: tuple[str, ...], purpose: str | None) -> frozenset[str]:
    from cnnfilter.networks.labels import find_labels

    if not patterns:
        return frozenset()
    with options.errors_about(f"'{purpose}'"):
        return find_labels(network, patterns)


def _heatmap_targets(sources: list[Source], heatmap: str, force: bool) -> list[Target]:
    if heatmap == "-":
        raise click.BadParameter("the labels go to stdout, so the heat map cannot.", param_hint="'--heatmap'")
    try:
        naming = Naming(heatmap, None, "heatmap", to_stdout=False)
        naming.default_formats = naming.default_formats.difference(TEXT_FORMATS)  # a heat map has colours
        return plan_targets(sources, naming, existing="force" if force else "refuse", can_skip=False)
    except click.BadParameter as error:  # which is written for -o and -f
        message = error.message.replace("; or name the format with -f", "")
        raise click.BadParameter(message, param_hint="'--heatmap'") from error


# --- one picture ---------------------------------------------------------------------------------------


def _classify(job: Job, network: Network, count: int, threshold: float | None) -> PictureLabels:
    from cnnfilter.networks.labels import best_labels

    image = job.read_first_frame("is classified")
    if job.target is None:
        probabilities = network.predict(image, threads=job.threads)[0]
    else:
        from cnnfilter.networks.heatmap import explain

        probabilities, overlay = explain(network, image, threads=job.threads)
        job.write(overlay)
    labels = best_labels(network, probabilities, top=count, threshold=threshold)
    return PictureLabels(job.source.listed_path, labels)


def _folders(network: Network, sort_into: str | None) -> dict[str, str]:
    """Return the folder into which the pictures of each label are sorted."""
    from cnnfilter.jobs.sorting import folder_names
    from cnnfilter.networks.labels import UNKNOWN_LABEL

    if sort_into is None:
        return {}
    labels = [*network.labels, UNKNOWN_LABEL]
    return {label: os.path.join(sort_into, name) for label, name in folder_names(labels).items()}


def _sort(found: PictureLabels, folders: dict[str, str], transfer: str, inputs: Inputs) -> PictureLabels:
    """Put a file into the folder of its label, print its new path unless ``--json`` prints it, and return it too."""
    from cnnfilter.jobs.sorting import sort_file, target_path

    label_folder = folders[found.labels[0].label]
    path = target_path(found.path, label_folder)[0] if inputs.dry_run else sort_file(found.path, label_folder, transfer)
    if not inputs.json and (inputs.dry_run or not inputs.quiet):
        print_paths(f"{found.path} -> {path}", inputs.end)
    return found._replace(sorted_to=path)
