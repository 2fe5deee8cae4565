"""Tests of `cnnfilter.runtime`."""
