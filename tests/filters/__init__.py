"""Tests of `cnnfilter.filters`."""
