"""Rankers: the second stage of two_stage."""
