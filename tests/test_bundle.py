"""A script and its files: which they are, how they travel, and what is refused on arrival."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import LaunchError
from pellucid.launch.bundle import Bundle, pack, summary, unpack
from pellucid.launch.sources import Place, find_place, find_sources, is_inner_link

LIMIT = 1 << 20


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    return root


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", root, *words], check=True, capture_output=True)


def names(root: Path, target: str = "train.py", cwd: Path | None = None) -> list[str]:
    return [f.path for f in find_sources(target, is_module=False, cwd=cwd or root).files]


def test_a_folder_is_sent_without_caches_and_environments(tmp_path: Path) -> None:
    put(tmp_path, "train.py", "nets/lenet.py", "__pycache__/x.pyc", ".venv/bin/python", "a.toml")
    assert names(tmp_path) == ["a.toml", "nets/lenet.py", "train.py"]


def test_of_a_work_tree_what_git_knows_is_sent_as_it_is_now(tmp_path: Path) -> None:
    put(tmp_path, "train.py", "nets/lenet.py", "gone.py", ".gitignore")
    git(tmp_path, "init")
    git(tmp_path, "add", "nets", "gone.py", ".gitignore")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "nets/lenet.py").write_text("changed")
    put(tmp_path, "results.bin", "notes/today.md")
    found = find_sources("train.py", is_module=False, cwd=tmp_path)
    assert [f.path for f in found.files] == [".gitignore", "nets/lenet.py", "train.py"]
    assert found.files[1].size == len("changed")
    (reason,) = found.left_out
    assert reason.startswith("notes/today.md, results.bin: not known to git")
    assert found.tracked


def test_a_folder_that_git_ignores_is_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "experiments/train.py", "other.py")
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("experiments/\n")
    found = find_sources("experiments/train.py", is_module=False, cwd=tmp_path)
    assert (found.root, found.tracked) == (tmp_path / "experiments", False)


def test_links_and_what_is_no_file(tmp_path: Path) -> None:
    root = put(tmp_path / "in", "train.py", "data/small.csv")
    put(tmp_path / "out", "large.csv")
    (root / "near").symlink_to("data")
    (root / "data/up").symlink_to("../train.py")
    (root / "far").symlink_to(tmp_path / "out")
    (root / "also_far").symlink_to("../out/large.csv")
    os.mkfifo(root / "pipe")
    found = find_sources("train.py", is_module=False, cwd=root)
    assert [f.path for f in found.files] == ["data/small.csv", "data/up", "near", "train.py"]
    assert len(found.left_out) == 3
    bundle = pack(found, tmp_path / "bundle", limit=LIMIT)
    unpack(bundle.path, tmp_path / "new", digest=bundle.digest, limit=LIMIT)
    assert (tmp_path / "new/near/small.csv").read_text() == "# data/small.csv\n"
    assert (tmp_path / "new/data/up").read_text() == "# train.py\n"
    assert "not sent: pipe: no file" in summary(bundle, found.left_out)


@pytest.mark.parametrize(
    ("cwd", "target", "place"),
    [
        (".", "train.py", Place("", ".", "train.py")),
        (".", "src/main.py", Place("src", ".", "src/main.py")),
        ("src", "../src/main.py", Place("", ".", "main.py")),
        ("src/deep", "../main.py", Place("", "deep", "../main.py")),
        ("elsewhere", "../src/main.py", Place("files", "cwd", "../files/main.py")),
    ],
)
def test_the_script_lies_where_it_lay(tmp_path: Path, cwd: str, target: str, place: Place) -> None:
    put(tmp_path, "train.py", "src/main.py", "src/deep/x.py", "elsewhere/y")
    here = tmp_path / cwd
    found = find_sources(target, is_module=False, cwd=here)
    assert find_place(found, target, is_module=False, cwd=here) == place


def test_a_module_is_looked_for_from_the_working_directory(tmp_path: Path) -> None:
    put(tmp_path, "train/__init__.py", "train/__main__.py")
    found = find_sources("train", is_module=True, cwd=tmp_path)
    assert found.root == tmp_path
    assert find_place(found, "train", is_module=True, cwd=tmp_path) == Place("", ".", "train")


def test_what_is_too_big_is_refused_with_names_and_a_remedy(tmp_path: Path) -> None:
    put(tmp_path, "train.py")
    with (tmp_path / "train.bin").open("wb") as file:
        file.truncate(200 << 20)
    found = find_sources("train.py", is_module=False, cwd=tmp_path)
    with pytest.raises(
        LaunchError, match=r"200\.0 MiB in 2 files.*train\.bin \(200.*--bundle-limit"
    ):
        pack(found, tmp_path / "bundle", limit=100 << 20)


def packed(folder: Path) -> Bundle:
    put(folder / "from", "train.py", "nets/lenet.py")
    (folder / "from/tool").write_bytes(bytes(3000))
    (folder / "from/tool").chmod(0o755)
    found = find_sources("train.py", is_module=False, cwd=folder / "from")
    return pack(found, folder / "bundle", limit=LIMIT)


def test_what_arrives_is_what_was_sent(tmp_path: Path) -> None:
    bundle = packed(tmp_path)
    came = unpack(bundle.path, tmp_path / "new", digest=bundle.digest, limit=LIMIT)
    assert came == bundle
    for entry in bundle.entries:
        old, new = tmp_path / "from" / entry.path, tmp_path / "new" / entry.path
        assert old.read_bytes() == new.read_bytes()
    assert os.access(tmp_path / "new/tool", os.X_OK)
    assert not os.access(tmp_path / "new/train.py", os.X_OK)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert summary(bundle).startswith(f"3 files, 3.0 KiB, {bundle.digest[:12]}: tool (2.9 KiB)")


def refused(folder: Path, entries: Any, contents: bytes = b"", listed: bytes | None = None) -> str:
    """What is said of a bundle made by somebody else; nothing may be left outside of the folder."""
    listed = json.dumps(entries).encode() if listed is None else listed
    path = folder / "bundle"
    path.write_bytes(len(listed).to_bytes(8, "big") + listed + contents)
    digest = hashlib.sha256(listed).hexdigest()
    before = sorted(folder.rglob("*"))
    with pytest.raises(LaunchError, match="refused the files") as caught:
        unpack(path, folder / "new", digest=digest, limit=1000)
    assert sorted(p for p in folder.rglob("*") if not p.is_relative_to(folder / "new")) == before
    return str(caught.value)


def entry(path: str, **changes: Any) -> dict[str, Any]:
    return {"path": path, "size": 0, "digest": hashlib.sha256(b"").hexdigest()} | changes


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a/./b", "a/", "a\0b", ".."]
)
def test_no_path_leads_out(tmp_path: Path, path: str) -> None:
    assert "outside of its folder" in refused(tmp_path, [entry(path)])


@pytest.mark.parametrize("link", ["/etc", "..", "../..", "a/../..", "x/..", "a\0"])
def test_no_link_leads_out(tmp_path: Path, link: str) -> None:
    assert "lead out of its folder" in refused(tmp_path, [entry("x", link=link)])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("a"), entry("a")], "twice"),
        ([entry("a", link="b"), entry("a/x")], "no folder"),
        ([entry("a"), entry("a/b/c")], "no folder"),
        ([entry("a", size=-1)], "more than the"),
        ([entry("a", size=600), entry("b", size=600)], "--bundle-limit"),
        ([entry("a", size=1)], "not what its list says"),
        ([entry("a", digest="0")], "not what its list says"),
        ([{"path": "a"}], "cannot be read"),
        ({"a": 1}, "cannot be read"),
    ],
)
def test_lists_that_cannot_be(tmp_path: Path, entries: Any, words: str) -> None:
    assert words in refused(tmp_path, entries)


def test_bytes_that_are_no_bundle(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path, None, listed=b"{")
    assert "cannot be read" in refused(tmp_path, None, listed=b"[" * 5000)


def test_bytes_after_the_last_file(tmp_path: Path) -> None:
    assert "after its last file" in refused(tmp_path, [entry("a")], b"x")


def test_another_list_than_was_announced(tmp_path: Path) -> None:
    bundle = packed(tmp_path)
    with pytest.raises(LaunchError, match="not the one that was announced"):
        unpack(bundle.path, tmp_path / "new", digest="0" * 64, limit=LIMIT)


def test_a_list_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes((1 << 60).to_bytes(8, "big") + b"x")
    with pytest.raises(LaunchError, match="its list takes"):
        unpack(tmp_path / "bundle", tmp_path / "new", digest="", limit=LIMIT)


@given(
    st.lists(st.sampled_from(["..", "a", "b", ".", ""]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3),
)
def test_a_link_that_is_let_in_stays_in(steps: list[str], name: list[str]) -> None:
    link = "/".join(steps)
    if is_inner_link("/".join(name), link):
        led = os.path.normpath("/root/" + "/".join(name[:-1]) + "/" + link)
        assert led == "/root" or led.startswith("/root/")
