"""Tests of `cnnfilter.jit`."""
