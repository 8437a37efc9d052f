"""What the calibration wizard asks of a person at each step, and which numbers it takes. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A number that a step takes: its name in SetupOptions, and how it is asked for."""

    name: str
    label: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """``key`` is of ``casa.calibrate.setup.STEPS``, or "save"."""

    key: str
    title: str
    words: str
    entries: tuple[Entry, ...] = ()


STEPS = (
    Step(
        "timing",
        "Timing",
        "Let the camera run at the frame rate you will use. casa watches it and says how even it is, whether frames are"
        " lost, and whether ALH and BCF can be trusted.",
        (Entry("seconds", "Watch for, s"),),
    ),
    Step(
        "stage",
        "Focus and stage",
        "Put on a slide with still, fine detail and bring it into focus: the needle below the picture shows how sharp"
        " it is. A motorised focus and stage are then measured by moving them; without, this step is quick.",
    ),
    Step(
        "scale",
        "Scale",
        "Put on the stage micrometer or ruled grid, in focus, filling the picture. The lines that were found are drawn"
        " on it: look whether none is missed.",
        (Entry("pitch_um", "Distance of two lines, µm"),),
    ),
    Step(
        "field",
        "Light",
        "Show a cell-free part of a slide, then darken the camera when asked. casa measures how even the light is, bad"
        " pixels, noise, and how far a fast sperm smears in one exposure.",
    ),
    Step(
        "chamber",
        "Chamber",
        "Say how deep the chamber is. With a slide of counting beads, give their certificate too: casa counts them, and"
        " says whether chamber and scale give the right concentration.",
        (
            Entry("chamber_depth_um", "Depth of the chamber, µm", optional=True),
            Entry("certified", "Beads: certified, M/mL", optional=True),
            Entry("uncertainty", "± (95 %), M/mL", optional=True),
            Entry("bead_um", "Diameter of a bead, µm", optional=True),
        ),
    ),
    Step(
        "save",
        "Save",
        "The profile holds what was measured, with dates and uncertainties. casa replay and casa live take it with"
        " --calibration, and refuse it where the camera's picture is of another size.",
    ),
)


def options_of(values: dict[str, str]) -> dict[str, float | list[float]]:
    """The entries' texts as fields of SetupOptions. ValueError, in words for the user: one is no positive number."""
    labels = {entry.name: entry for step in STEPS for entry in step.entries}
    found: dict[str, float] = {}
    for name, text in values.items():
        entry = labels[name]
        if not text.strip():
            if not entry.optional:
                raise ValueError(f"{entry.label}: a number is missing")
            continue
        try:
            number = float(text.replace(",", "."))
        except ValueError:
            number = 0.0
        if not 0 < number < 1e6:
            raise ValueError(f"{entry.label}: {text!r} is no positive number")
        found[name] = number
    options: dict[str, float | list[float]] = {k: v for k, v in found.items() if k not in ("certified", "uncertainty")}
    if "certified" in found or "uncertainty" in found:
        if not {"certified", "uncertainty"} <= found.keys():
            raise ValueError("Beads: give the certified concentration and its ±, or neither")
        if "chamber_depth_um" not in found:
            raise ValueError("Beads: the depth of their chamber is missing")
        options["beads"] = [found["certified"], found["uncertainty"]]
    return options
