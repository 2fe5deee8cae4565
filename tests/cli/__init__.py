"""Tests of `cnnfilter.cli`."""
