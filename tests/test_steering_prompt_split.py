"""Which prompts of a steering study choose the strength and which report it, and what is said of few of them."""

from __future__ import annotations

import pytest

from saekit.errors import DataError
from saekit.steering.prompt_split import split_prompts

from .steering_studies import row_of, study_from


def test_a_third_of_the_prompts_chooses_whatever_their_order() -> None:
    prompts = [f"question {n}" for n in range(20)]
    split = split_prompts(prompts)
    assert (len(split.choose), len(split.report)) == (6, 14) and split.held_out
    assert {*split.choose, *split.report} == set(prompts) and not set(split.choose) & set(split.report)
    again = split_prompts(prompts[::-1])
    assert set(again.choose) == set(split.choose) and list(again.report) == [*split.report][::-1]
    for n in range(1, 20):
        few = split_prompts(prompts[:n])
        assert few.held_out == (n >= 7) and set(few.prompts) == set(prompts[:n])
        assert len(few.report) >= 5 if few.held_out else few.choose == few.report
    assert "14 others" in str(split) and "too good; 7 prompts are needed" in str(split_prompts(prompts[:6]))
    given = split_prompts(prompts, ["another"])
    assert given.choose == ("another",) and list(given.report) == prompts and given.held_out
    assert "no prompt chooses" in str(split_prompts(prompts, ()))
    for choose, match in ((prompts[:1], "both choose"), (["x", "x"], "each once")):
        with pytest.raises(DataError, match=match):
            split_prompts(prompts, choose)


@pytest.mark.slow
def test_a_strength_that_shines_only_where_it_was_chosen_is_reported_as_it_is() -> None:
    """0.5 always shows the concept on choosing prompts and never on reporting ones; 0.25 on half of both."""
    split = split_prompts([str(n) for n in range(18)])
    rows = []
    for prompt in split.prompts:
        for strength in (0.0, 0.25, 0.5):
            shown = {0.0: False, 0.25: int(prompt) % 2 == 0, 0.5: prompt in split.choose}[strength]
            rows.append(row_of("feature" if strength else "none", strength, prompt, shown))
    study = study_from(rows, split=split, strengths=(0.25, 0.5))
    assert study.recommended == 0.5
    assert study.estimate("feature").value == 0.0 == study.at().loc["feature", "rate"]
    assert study.summarise("choose").query("strength == 0.5")["rate"].item() == 1.0
    assert study.estimate("feature").n_units == 12 and study.at().loc["feature", "n_units"] == 12
    assert "strength chosen on 6 prompts, figures from 12 others" in repr(study)
    chosen = study_from(rows, split=split_prompts(split.prompts, ()), strengths=(0.25, 0.5))
    assert chosen.recommended is None and "no prompt chooses a strength" in repr(chosen)
    assert chosen.at(feature=0.25).loc["feature", "n_units"] == 18


@pytest.mark.slow
def test_below_five_prompts_there_is_no_interval_and_the_reason_is_said() -> None:
    rows = [row_of("feature" if s else "none", s, str(p), p < 3) for p in range(4) for s in (0.0, 0.25)]
    rows += [row_of("control", 0.25, "0", False, feature=f) for f in (7, 8)]
    study = study_from(rows, split=split_prompts(["0", "1", "2", "3"]), strengths=(0.25,), controls=(7, 8))
    summary = study.summary
    assert summary[[c for c in summary if c.endswith(("_low", "_high"))]].isna().all().all()
    assert study.estimate("feature").reason == "no interval: 4 prompts, at least 5 are needed"
    assert str(study.estimate("control")) == "0.00 (no interval: 2 features, at least 5 are needed)"
    assert "no interval where there are fewer than 5 prompts" in repr(study)
    assert "so its figures are too good" in repr(study), "the same four prompts chose the strength"
    for kind in ("dose", "pareto"):
        assert study.plot(kind).data  # type: ignore[arg-type]
