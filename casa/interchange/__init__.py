"""Recordings and samples for other programs: what columns mean, TrackMate, napari, FHIR R4.

Reads recordings, samples and the report's figures; computes no figure of its own. docs/export.md is its page.
"""
