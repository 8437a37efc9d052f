"""Measurements beside other programs and over long runs; knows every part of casa."""
