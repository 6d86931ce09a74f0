"""The recipes that make the packaged SAEs: which text is held out, and what the named concepts stand for."""

from __future__ import annotations

import pandas as pd

import saekit as sk
from recipes.default_saes import concepts, mixture


def test_a_document_stays_on_its_side() -> None:
    demo = sk.load_corpus("demo").to_frame()
    side = demo["text"].map(mixture.is_held_out)
    assert (side == (demo["part"] == "held_out")).all()
    assert 0.03 < side.mean() < 0.08
    text = demo["text"][side].iloc[0]
    assert mixture.is_held_out("  " + text.replace(" ", "\n")), "white space has no say"


SAID = {
    "Golden Gate Bridge": ("the Golden Gate Bridge is red", "the Brooklyn Bridge, a golden gate"),
    "bridges": ("two bridges", "abridged"),
    "Paris": ("the Eiffel Tower", "a tower in parish land"),
    "China": ("Chinese tea", "chinaware"),
    "Egypt": ("the Egyptians", "a crypt"),
    "Japan": ("Japan's coast", "jargon"),
    "Germany": ("two Germans", "germane"),
    "India": ("in India", "Indiana"),
    "Russia": ("a Russian novel", "rustic"),
    "numbers": ("page 7", "page seven"),
    "anger": ("she said angrily", "hunger"),
    "love": ("lovers", "gloves"),
    "fear": ("fearful", "fearless leaders"),
    "sadness": ("sorrow", "Saddam"),
    "markup": ('<a href="x">', "a < b and c > d"),
    "music": ("musicians", "amusing"),
}


def test_concepts_mean_what_their_names_say() -> None:
    named = {concept.name: concept for concept in concepts.NAMED}
    assert len(named) == len(concepts.NAMED) == 20
    for name, (yes, no) in SAID.items():
        assert named[name].meant.present(yes) and not named[name].meant.present(no), name
    by_label = {"Python code": "python", "French": "fr", "Spanish": "es", "German": "de"}
    assert set(named) == set(SAID) | set(by_label)
    for name, code in by_label.items():
        assert named[name].unit == "document"
        assert named[name].holds(pd.Series({"text": "", "language": code}))
        assert not named[name].holds(pd.Series({"text": "", "language": "en"}))
    assert named["French"].said.present("le chat est ici") and not named["French"].said.present("le mans")
