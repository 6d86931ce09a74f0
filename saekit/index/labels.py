"""Labels of features, kept with their index in a file that only grows: one act a line, so that each can be undone.

An act puts labels on features, or takes the last act back. Whoever writes holds the lock of the folder for as long as a
line takes; who comes at the same time waits. A packaged SAE brings the labels of its card, which are in no file of the
index: a label in the index goes before them, and nothing undoes them.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import pandas as pd
from pydantic import Field
from typing_extensions import TypedDict

from ..errors import ConfigError, FileError, FolderInUseError, check_feature
from ..json_files import Natural
from ..json_lines import append_lines, read_lines
from ..output_folder import output_folder
from ..sae.formats.packaged import packaged_labels

LABELS = "labels.jsonl"
COLUMNS = ("feature", "label", "note", "stars", "author", "time", "source")
HAND, CARD = "hand", "card"
LONGEST_LABEL, LONGEST_NOTE = 200, 10_000
"""Characters."""
PATIENCE = 10.0
"""Seconds that are waited for whoever else writes to the folder."""
_FIX = "remove that line, or the file: every line is one act of labelling"


class Label(TypedDict):
    """What a person, a judge or a file says that a feature stands for."""

    feature: Natural
    label: Annotated[str, Field(max_length=LONGEST_LABEL)]
    """Empty: the feature has no label any more."""
    note: Annotated[str, Field(max_length=LONGEST_NOTE)]
    stars: Annotated[int, Field(ge=1, le=5)] | None
    author: str | None
    time: str
    source: str


class Act(TypedDict):
    """A line of the file."""

    act: Literal["label", "undo"]
    sae: str
    time: str
    labels: NotRequired[list[Label]]


class FeatureLabels:
    """The labels of the features of one index, read again whenever the file has changed."""

    def __init__(self, folder: Path, sae_fingerprint: str, d_sae: int) -> None:
        self.path, self._sae, self._d_sae = folder / LABELS, sae_fingerprint, d_sae
        self._state: tuple[int, int] | None = None
        self._own: dict[int, Label] = {}
        self._acts: list[list[Label]] = []
        self._card = [
            Label(**row, stars=None, author=None, time="", source=CARD)
            for row in packaged_labels(sae_fingerprint)["labels"]
        ]

    @property
    def version(self) -> object:
        """Another one whenever the file has changed."""
        return self._stamp()

    @property
    def labels(self) -> list[Label]:
        """The labels that hold now, by feature. FileError for a file that is damaged."""
        self._read()
        together = {label["feature"]: label for label in self._card} | self._own
        return [together[i] for i in sorted(together) if together[i]["label"]]

    def frame(self) -> pd.DataFrame:
        """The labels as a table."""
        frame = pd.DataFrame(self.labels, columns=list(COLUMNS))
        return frame.astype({"feature": "int64", "stars": "Int64"})

    def put(self, labels: Sequence[Label]) -> None:
        """Puts these labels on their features, all in one act."""
        self._append({"act": "label", "labels": list(labels)})

    def undo(self) -> list[Label]:
        """Takes back the last act that stands, and gives the labels that it had put."""
        with self._writing():
            self._read()
            if not self._acts:
                raise ConfigError("there is no label to take back", got=f"no act in {self.path}")
            last = self._acts[-1]
            append_lines(self.path, [{"act": "undo", "sae": self._sae, "time": now()}])
        return last

    def _append(self, act: dict[str, Any]) -> None:
        with self._writing():
            self._read()  # nothing is added to a file that cannot be read
            append_lines(self.path, [{"sae": self._sae, "time": now(), **act}])

    @contextlib.contextmanager
    def _writing(self) -> Any:
        """The lock of the folder, waited for."""
        until = time.monotonic() + PATIENCE
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(output_folder(self.path.parent, "labels"))
                    break
                except FolderInUseError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.01)
            yield

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _read(self) -> None:
        stamp = self._stamp()
        if stamp == self._state:
            return
        acts: list[list[Label]] = []
        for line in read_lines(self.path, Act, fix=_FIX, on_cut=_report):
            if line["sae"] != self._sae:
                raise FileError(
                    f"{self.path} holds labels of another SAE", got=line["sae"], accepted=self._sae, fix=_FIX
                )
            if line["act"] == "label":
                acts.append(line.get("labels", []))
            elif acts:
                acts.pop()
        own = {label["feature"]: label for labels in acts for label in labels}
        if outside := [i for i in own if i >= self._d_sae]:
            raise FileError(
                f"{self.path} labels a feature that there is not",
                got=outside[0],
                accepted=f"0 to {self._d_sae - 1}",
                fix=_FIX,
            )
        self._own, self._acts, self._state = own, acts, stamp


def make_label(
    feature: object,
    label: object,
    d_sae: int,
    *,
    note: object = "",
    stars: int | None = None,
    author: str | None = None,
    source: str = HAND,
    time: str | None = None,
) -> Label:
    """A Label, its parts being checked; spaces around and line breaks within a label go. Without `author`, the user."""
    for name, value, most in (("label", label, LONGEST_LABEL), ("note", note, LONGEST_NOTE)):
        if not isinstance(value, str) or len(value) > most or not _is_text(value):
            is_text = isinstance(value, str) and _is_text(value)
            raise ConfigError(
                f"the {name} is too long" if is_text else f"the {name} is no text",
                got=f"{len(value):,} characters" if is_text else f"{value!r:.80}",  # type: ignore[arg-type]
                accepted=f"a string of at most {most:,} characters",
            )
    if author is not None and (not isinstance(author, str) or len(author) > LONGEST_LABEL or not _is_text(author)):
        raise ConfigError("the author is no name", got=f"{author!r:.80}", accepted="a string, or None for the user")
    return Label(
        feature=check_feature(feature, d_sae),
        label=" ".join(str(label).split()),
        note=str(note),
        stars=stars,
        author=_user() if author is None else author,
        time=now() if time is None else time,
        source=source,
    )


def now() -> str:
    """The time in ISO 8601, to the second, with its offset."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # which Python 3.13 has made one of
        return None


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: half of a surrogate pair cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _report(where: str) -> None:
    warnings.warn(f"{where} was cut short: the labels of that act are lost, and of that alone", stacklevel=6)
