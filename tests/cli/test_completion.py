"""The values that a shell is offered while a command line is typed."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cnnfilter.cli import main


def completions(words):
    """Return the types and values that bash is offered for the last word."""
    env = {"COMP_WORDS": " ".join(["cnnfilter", *words]), "COMP_CWORD": str(len(words))}
    env["_CNNFILTER_COMPLETE"] = "bash_complete"
    done = CliRunner().invoke(main, [], env=env, prog_name="cnnfilter")
    return [tuple(line.split(",", 1)) for line in done.stdout.splitlines() if line]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "kernel.txt",
        "k.mat",
        "sub/inner.json",
        "kept.safetensors",
        "photo.jpg",
        ".hidden.txt",
        "empty/x.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["convolve", "-k", "@"], ["@empty/", "@k.mat", "@kernel.txt", "@sub/"]),
        (["convolve", "-k", "@k"], ["@k.mat", "@kernel.txt"]),
        (["convolve", "-k", "@s"], ["@sub/inner.json"]),
        (["convolve", "-k", "@e"], ["@empty/"]),
        (["convolve", "-k", "@sub/"], ["@sub/inner.json"]),
        (["convolve", "-k", "@no/"], []),
        (["convolve", "-k", "laplacian"], ["laplacian", "laplacian-8"]),
        (["kernels", "show", "@ke"], ["@kernel.txt"]),
        (["evaluate", "d"], ["digits"]),
        (["evaluate", "k"], ["kept.safetensors"]),
        (["export", "fash"], ["fashion"]),
        (["classify", "-m", "eff"], ["efficientnet-lite0"]),
        (["features", "-m", "./k"], ["./kept.safetensors"]),
        (["describe", "di"], ["digits"]),
        (["apply", "'conv so"], ["conv sobel", "conv sobel-h", "conv sobel-v"]),
        (["apply", "'conv blur @k"], ["conv blur @k.mat", "conv blur @kernel.txt"]),
        (["apply", "'conv sobel-h | relu | max"], ["conv sobel-h | relu | maxpool"]),
        (["apply", "'digits | relu | di"], []),
        (["train", "data", "--layers", "'flatten|de"], ["flatten|depthwise", "flatten|dense"]),
    ],
)
def test_the_shell_is_offered(files, words, offered):
    assert completions(words) == [("plain", value) for value in offered]


def test_the_shell_completes_other_files_itself(files):
    assert completions(["convolve", "-k", "my/ker"]) == [("file", "my/ker")]
    assert completions(["evaluate", "x"]) == [("file", "x")]


def test_bash_hands_over_an_at_sign_as_a_word_of_its_own(files):
    assert completions(["convolve", "-k", "@", "ke"]) == [("plain", "@kernel.txt")]
