"""Tests of `cnnfilter.weights`."""
