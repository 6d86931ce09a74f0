"""What the card of a packaged SAE says of single features, as labels.json, which every index of it shows.

A feature is labelled where its card reports an AUROC and a precision of its strongest firings as high as concepts are
asked for, an interval that does not reach down to chance, and enough text with the concept; features that their card
reports worse of have no label. The best by average precision is the label, and what else a feature stands for is in the
note.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saekit.atomic_io import write_json
from saekit.json_files import read_json
from saekit.sae.formats.packaged import LABELS, CardLabel, CardLabels, CardStrength

from .cards import PACKAGED

MIN_AUROC, MIN_LOW, MIN_PRECISION, MIN_POSITIVE = 0.95, 0.5, 0.8, 5
"""Of the AUROC, of the lower end of its interval, of the precision of the strongest firings, and how many have it."""
LANGUAGES = ("French", "Spanish", "German")
"""Concepts that hold for a document by its language, not for the word."""
STRENGTHS = {
    "ad964aed57fd940d": (
        CardStrength(
            feature=3722,
            strength=0.27,
            note="chosen on six questions; on twenty others 0.83 [0.71, 0.91] of the answers mention a bridge "
            '(benchmarks/RESULTS.md, "Steering to a bridge")',
        ),
    )
}
"""By the SAE's fingerprint, as fractions of the residual norm."""


def card_labels(card: dict[str, Any]) -> CardLabels:
    """The labels and strengths of a card.json."""
    found: dict[int, list[tuple[float, str, dict[str, Any]]]] = {}
    for name, row in card["concepts"].items():
        if "feature" not in row:  # not in the text that concepts were measured on
            continue
        label = f"{name} text" if name in LANGUAGES else name
        found.setdefault(row["feature"], []).append((row["average_precision"] or 0.0, label, row))
    for row in card["features"]:
        if row["feature"] not in found:
            found[row["feature"]] = [(0.0, row["fires_for"], row)]
    labels = []
    for feature, rows in sorted(found.items()):
        good = sorted((r for r in rows if _reported_well(r[2])), key=lambda r: -r[0])
        if good:
            notes = [f"{label}: {_evidence(row)}" for _, label, row in good]
            labels.append(CardLabel(feature=int(feature), label=good[0][1], note="; ".join(notes)))
    return CardLabels(sae=card["fingerprint"], labels=labels, strengths=list(STRENGTHS.get(card["fingerprint"], ())))


def write_labels(folder: Path = PACKAGED) -> list[Path]:
    """Writes labels.json beside every card below a folder, and returns where."""
    paths = []
    for card in sorted(folder.rglob("card.json")):
        path = card.with_name(LABELS)
        write_json(path, card_labels(read_json(card)))
        paths.append(path)
    return paths


def _reported_well(row: dict[str, Any]) -> bool:
    enough = row.get("n_positive_documents", row["n_positive"]) >= MIN_POSITIVE
    good = (row["auroc"] or 0) > MIN_AUROC and (row["auroc_low"] or 0) > MIN_LOW
    return bool(enough and good and (row["top_precision"] or 0) > MIN_PRECISION)


def _evidence(row: dict[str, Any]) -> str:
    interval = f" [{row['auroc_low']:.3f}, {row['auroc_high']:.3f}]" if row["auroc_low"] is not None else ""
    precision = f", average precision {row['average_precision']:.3f}" if row.get("average_precision") else ""
    return f"AUROC {row['auroc']:.3f}{interval} by {row['unit']}, {row['n_positive']} with it{precision}"
