"""Tests of `cnnfilter.jobs`."""
