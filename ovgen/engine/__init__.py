"""Requests, blocks and the loop that ties them to a runner."""
