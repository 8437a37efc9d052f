"""What each figure is called in FHIR: its LOINC code, or one of casa's own where LOINC has none, and its UCUM unit.

Codes are of the LOINC table (class FERT); docs/export.md lists them, and says why a figure has none. Texts are ours.
Reference limits are the lower 5th centiles of WHO 2021, Table 8.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
#: casa has no domain of its own, so its codes hang on a UUID; every bundle carries their definitions (a CodeSystem).
LOCAL = "urn:uuid:3f0c5d2e-6b1a-4a53-9d0e-5ca5a0c0de01"
#: "Semen analysis fertility panel".
PANEL = {"system": LOINC, "code": "54231-6"}

LIMIT_TEXT = (
    "WHO 2021, lower 5th centile of men whose partners conceived within 12 months; it does not part fertile from "
    "infertile men"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of figure: ``loinc`` is "" where LOINC has no code that says the same; ``unit`` is UCUM."""

    loinc: str
    text: str
    unit: str
    limit: float | None = None
    definition: str = ""


_TRACKS = "Median over the tracks of the field or fields"
KINDS: dict[str, Kind] = {
    "concentration": Kind("9780-8", "Sperm concentration", "10*6/mL", 16.0),
    "total-number": Kind(
        "", "Total sperm number", "10*6", 39.0, "Concentration times the volume of the ejaculate, millions"
    ),
    "volume": Kind("3160-9", "Volume of the ejaculate", "mL", 1.4),
    "total": Kind("6800-7", "Total motility (grades a + b + c)", "%", 42.0),
    "pr": Kind("14194-5", "Progressive motility (grades a + b)", "%", 30.0),
    "a": Kind("", "Grade a, rapid progressive", "%", None, "Share of sperm at 25 um/s and more, WHO 2021, 2.4.6.1"),
    "b": Kind("", "Grade b, slow progressive", "%", None, "Share of sperm at 5 to below 25 um/s, WHO 2021, 2.4.6.1"),
    "c": Kind("10620-3", "Grade c, non-progressive", "%"),
    "d": Kind("10611-2", "Grade d, immotile", "%"),
    "normal-heads": Kind("10621-1", "Heads that a network calls normal, unstained", "%"),
    "cells": Kind("", "Sperm assessed", "{cells}", None, "Effective number of tracks: (sum w)^2 / sum w^2"),
    "vcl": Kind("", "Curvilinear velocity VCL, median", "um/s", None, f"{_TRACKS}: length of the path over its time"),
    "vsl": Kind("", "Straight-line velocity VSL, median", "um/s", None, f"{_TRACKS}: start to end over time"),
    "vap": Kind("", "Average-path velocity VAP, median", "um/s", None, f"{_TRACKS}: averaged path over time"),
    "lin": Kind("", "Linearity LIN, median", "%", None, f"{_TRACKS}: VSL / VCL"),
    "str": Kind("", "Straightness STR, median", "%", None, f"{_TRACKS}: VSL / VAP"),
    "wob": Kind("", "Wobble WOB, median", "%", None, f"{_TRACKS}: VAP / VCL"),
    "alh": Kind("", "Lateral head displacement ALH, median", "um", None, f"{_TRACKS}: full width (twice the riser)"),
    "bcf": Kind("", "Beat-cross frequency BCF, median", "Hz", None, f"{_TRACKS}: crossings of the averaged path"),
    "mad": Kind("", "Mean turning angle MAD, median", "deg", None, f"{_TRACKS}: mean absolute turning angle"),
}  # fmt: skip

#: Codes of components, which casa has of its own.
COMPONENTS = {
    "interval-95": ("95 % interval", "What chance leaves open of the figure, 95 %"),
    "quartiles": ("Quartiles", "First and third quartile over the tracks"),
    "replicate-1": ("Replicate 1", "The figure of the sample's first replicate alone"),
    "replicate-2": ("Replicate 2", "The figure of the sample's second replicate alone"),
}


def concept(key: str) -> dict[str, Any]:
    """The CodeableConcept of a kind of figure."""
    kind = KINDS[key]
    own = {"system": LOCAL, "code": key, "display": kind.text}
    coding = {"system": LOINC, "code": kind.loinc} if kind.loinc else own
    return {"coding": [coding], "text": kind.text}


def component_concept(key: str) -> dict[str, Any]:
    """The CodeableConcept of a component."""
    text = COMPONENTS[key][0]
    return {"coding": [{"system": LOCAL, "code": key, "display": text}], "text": text}


def local_codes() -> dict[str, Any]:
    """The CodeSystem that defines casa's own codes."""
    concepts = [
        {"code": key, "display": kind.text, "definition": kind.definition}
        for key, kind in KINDS.items()
        if not kind.loinc
    ]
    concepts += [{"code": key, "display": text, "definition": said} for key, (text, said) in COMPONENTS.items()]
    return {
        "resourceType": "CodeSystem",
        "id": LOCAL.removeprefix("urn:uuid:"),
        "url": LOCAL,
        "name": "CasaFigures",
        "title": "Figures of casa that LOINC has no code for",
        "status": "draft",
        "content": "complete",
        "caseSensitive": True,
        "concept": concepts,
    }


def quantity(value: float, unit: str) -> dict[str, Any]:
    """A Quantity of at most six significant digits."""
    return {"value": float(f"{value:.6g}"), "unit": unit, "system": UCUM, "code": unit}
