"""Tests of `cnnfilter.networks`."""
