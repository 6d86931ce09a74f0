import errno

import pytest

from saekit.errors import DiskFullError, FileError, SaekitError, UnknownNameError, disk_errors, unknown_name


def test_message_has_the_four_parts():
    text = str(SaekitError("k is wrong", got=-1, accepted="k >= 1", fix="pass k=32"))
    assert text.splitlines() == ["k is wrong", "  seen:     -1", "  accepted: k >= 1", "  fix:      pass k=32"]


def test_unknown_name_suggests_the_nearest_and_lists_the_rest():
    e = unknown_name("label", "topik", ["style", "topic"])
    assert isinstance(e, UnknownNameError) and isinstance(e, LookupError)
    assert "did you mean 'topic'?" in str(e) and "style, topic" in str(e)
    assert str(e).endswith("fix:      pass 'topic'")
    far = str(unknown_name("label", "zzz", ["style", "topic"]))
    assert "did you mean" not in far and far.endswith("fix:      pass one of these names")


def test_long_lists_are_cut():
    text = str(unknown_name("hook", "x", [f"name{i}" for i in range(1000)]))
    assert "(1000 in all)" in text and len(text) < 1000


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EACCES, FileError)]
)
def test_disk_errors_are_translated(code, kind):
    with pytest.raises(kind) as caught, disk_errors("/x/y"):
        raise OSError(code, "reason")
    assert type(caught.value) is kind and "/x/y" in str(caught.value)


def test_our_own_errors_pass_through():
    with pytest.raises(UnknownNameError), disk_errors("/x"):
        raise unknown_name("a", "b", [])
