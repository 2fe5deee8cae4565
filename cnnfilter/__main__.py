"""``python -m cnnfilter``: the same as the console script."""

from cnnfilter.cli import main

if __name__ == "__main__":
    main(prog_name="cnnfilter")
