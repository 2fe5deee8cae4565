"""Train a classifier on labelled pictures: a head on the shipped network, or a network from nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cnnfilter import __version__
from cnnfilter.augmentation import parse_augmentation
from cnnfilter.dataset import Dataset, load_folder
from cnnfilter.duplicates import Duplicate, find_duplicates
from cnnfilter.evaluation import Evaluation
from cnnfilter.files import replace_file
from cnnfilter.head_training import HeadTraining, train_head
from cnnfilter.model_file import Model, write_model
from cnnfilter.network import Network, make_network
from cnnfilter.watching import Watcher


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes
    ----------
    model : Model
        What a model file holds.
    dataset : Dataset
        The pictures that could be read.
    evaluation : Evaluation, optional
        On `judged_by`: the test pictures, else the validation pictures; None without either.
    duplicates : list of Duplicate
        Pictures that are in two splits.
    """

    model: Model
    dataset: Dataset
    evaluation: Evaluation | None = None
    judged_by: str = ""
    duplicates: tuple[Duplicate, ...] = ()

    @property
    def network(self) -> Network:
        """The network, ready to predict."""
        return make_network(self.model)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model file; the same training gives the same bytes.

        Raises
        ------
        FileExistsError
            If it exists and `force` is false.
        OSError
            If it cannot be written; then there is no such file, or still the old one.
        """
        with replace_file(path, force=force) as file:
            write_model(file, self.model)


def train(
    data: Dataset | str | os.PathLike[str],
    *,
    augment: str = "",
    class_weights: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Train a classifier.

    Parameters
    ----------
    data : Dataset or path
        As `load_folder` takes it.
    augment : str
        How training pictures are changed, such as ``flip,shift:0.1``; nothing for not at all.
    class_weights : "auto", "balanced" or "none"
        Whether every class counts the same, however many pictures it has; auto: if they are more than 3:1.
    seed : int
        Of all that is drawn: the same for the same number.
    threads : int, optional
        All cores if not given; the result is the same for any number.

    Raises
    ------
    DataError
        If the pictures cannot teach what was asked.
    """
    dataset = data if isinstance(data, Dataset) else load_folder(data, seed=seed)
    dataset.check()
    done = train_head(
        dataset,
        augmentation=parse_augmentation(augment),
        weights=class_weights,
        seed=seed,
        threads=threads,
        watcher=watcher or Watcher(),
    )
    return _judge_head(done, augment, seed)


def judge(dataset: Dataset) -> str:
    """Return the split by which a training is judged; nothing if there is none."""
    return next((split for split in ("test", "validation") if split in dataset.splits), "")


def _judge_head(done: HeadTraining, augment: str, seed: int) -> Trained:
    dataset, split = done.dataset, judge(done.dataset)
    evaluation = None
    if split:
        samples = dataset.splits[split]
        evaluation = Evaluation(dataset.classes, samples.labels, done.logits(split), samples)
    prints = {name: seen.fingerprints for name, seen in done.seen.items() if name in dataset.splits}
    how = f"a head on {done.model.backbone.name}, penalty {done.head.penalty:g}"  # type: ignore[union-attr]
    how += f", augmented by {parse_augmentation(augment)}" if augment else ""
    model = replace(done.model, provenance=provenance(dataset, how, seed, evaluation, split))
    duplicates = find_duplicates({name: dataset.splits[name] for name in prints}, prints)
    return Trained(model, dataset, evaluation, split, tuple(duplicates))


def provenance(dataset: Dataset, how: str, seed: int, evaluation: Evaluation | None, split: str) -> str:
    """Say in words where weights come from."""
    name = os.path.basename(os.path.abspath(dataset.name))
    text = (
        f"Trained by cnnfilter {__version__} on {name}: {len(dataset.train):,} pictures of {len(dataset.classes)} classes; "
        f"{how}; seed {seed}."
    )
    if evaluation is not None:
        text += f" Right: {evaluation.accuracy:.1%} of {len(evaluation):,} {split} pictures."
    return text
