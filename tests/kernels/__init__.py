"""Tests of `cnnfilter.kernels`."""
