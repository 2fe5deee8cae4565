"""Tests of `cnnfilter.images`."""
