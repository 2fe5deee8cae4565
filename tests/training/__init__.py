"""Tests of `cnnfilter.training`."""
