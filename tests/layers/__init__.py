"""Tests of `cnnfilter.layers`."""
