"""What ``casa grade agreement`` says of a folder of clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from casa.cells import EXPERT_GRADES
from casa.evaluate.agreement import fleiss_kappa, kappa_interval
from casa.grade.data import read_card, read_pictures, says_simulated, set_name
from casa.grade.votes import expert_agreement, read_votes


def agreement_of(folder: Path) -> dict[str, Any]:
    """Fleiss' kappa with its interval, each expert against the others, and votes by clip and grade; for JSON.

    Clips without votes are counted, and left out of everything else.

    Raises
    ------
    InputError : bad clips or votes, as `casa.grade.data.read_pictures` and `casa.grade.votes.read_votes` say.
    """
    ids, _, _ = read_pictures(folder)
    card = read_card(folder)
    votes = read_votes(folder, ids, complete=False)
    per_clip = votes.counts.sum(axis=1)
    voted = votes.counts[per_clip > 0]
    low, high = kappa_interval(voted)
    experts = {
        name: {
            "clips": e.clips,
            "as_others": e.as_others,
            "severity": e.severity,
            "votes": dict(zip(EXPERT_GRADES, e.counts, strict=True)),
        }
        for name, e in expert_agreement(votes).items()
    }
    return {
        "folder": str(folder),
        "name": set_name(folder, card),
        "simulated": says_simulated(card),
        "clips": len(ids),
        "clips_without_votes": int((per_clip == 0).sum()),
        "votes": int(per_clip.sum()),
        "votes_per_clip": {
            "min": int(per_clip.min()),
            "median": float(np.median(per_clip)),
            "max": int(per_clip.max()),
        },
        "kappa": {"fleiss": fleiss_kappa(voted), "low": low, "high": high},
        "votes_by_grade": dict(zip(EXPERT_GRADES, voted.sum(axis=0).tolist(), strict=True)),
        "majority": dict(zip(EXPERT_GRADES, np.bincount(voted.argmax(axis=1), minlength=5).tolist(), strict=True)),
        "experts": experts,
    }
