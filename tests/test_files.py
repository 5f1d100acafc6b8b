"""Programs that work with files, as leader and follower side by side: like plain python's.

Everything that a program prints is compared in both workers, so a program prints what it sees.
"""

# ruff: noqa: PTH110, PTH115, PTH123, PTH208

from __future__ import annotations

import builtins
import io
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pellucid.intercept.files import FollowerFiles, LeaderFiles
from pellucid.intercept.files.early import LARGE, made_again
from pellucid.intercept.files.log import Log
from pellucid.intercept.files.temporary import MARK, SameNames
from pellucid.intercept.files.view import View
from tests.workers import Ran, alone, side_by_side

BEFORE = {
    "counter": "7",
    "log.txt": "old\n",
    "old/a": "A",
    "old/sub/b": "B",
    "data/1": "1",
    "data/2": "2",
    "state.json": '{"n": 3}',
    "gone": "x",
    "moved": "m",
}

MAKES = """
    import json, os
    from pathlib import Path
    from meeting import meet

    os.mkdir("early")
    Path("early/x").write_text("hello")
    meet()
    print(sorted(os.listdir()), os.path.exists("late"))
    os.mkdir("late")
    with open("late/a", "w") as f:
        f.write("one\\n")
        print(f.name)
    with open("late/a", "a") as f:
        f.write("two\\n")
    meet()
    print(Path("late/a").read_text(), os.path.getsize("late/a"))
    with open("late/a", "r+") as f:
        f.write("ONE")
    with open("late/exclusive", "x") as f:
        json.dump({"a": 1}, f)
    print(Path("late/a").read_text(), json.load(open("late/exclusive")))
    meet()
    os.makedirs("a/b/c", exist_ok=True)
    os.makedirs("a/b/c", exist_ok=True)
    (Path("a") / "b" / "d").touch()
    print(sorted(str(p) for p in Path("a").rglob("*")))
"""

AGAIN = """
    import os, tempfile
    from meeting import meet

    # what the leader does early it has done when the follower comes to the same lines
    os.mkdir("made")
    os.symlink("made", "link")
    os.makedirs("deep/er")
    open("made/new", "x").close()
    for act in (lambda: os.mkdir("made"), lambda: open("made/new", "x")):
        try:
            act()
        except FileExistsError as error:
            print(error)
    with tempfile.TemporaryDirectory() as folder:
        open(os.path.join(folder, "x"), "w").close()
        print(os.listdir(folder))
    os.remove("gone")
    os.rename("moved", "moved2")
    print(sorted(os.listdir()), open("moved2").read(), os.path.exists("gone"))
    meet()
    print(sorted(os.listdir()))
"""

REFUSES = """
    import os, sys
    from pathlib import Path
    from meeting import meet

    # what scripts do before they train, lest they overwrite what an earlier run has left
    for out in ("out", "runs/1", "old/new"):
        if os.path.exists(out):
            sys.exit(f"{out} exists")
        os.makedirs(out)
    with open("lock", "x") as lock:
        lock.write(str(len(os.listdir("runs"))))
    number = 0
    while os.path.exists(f"run{number}"):
        number += 1
    Path(f"run{number}").mkdir()
    if not os.path.exists("config"):
        print("first run")
    with open("config", "a") as config:
        config.write("once\\n")
    os.rename("config", "old/new/config")
    open("log.txt", "a").write("more\\n")
    log = open("runs/1/log", "w")
    log.write("started\\n")
    meet()
    log.write("trains\\n")
    log.close()
    tree = lambda: sorted((r, sorted(d), sorted(f)) for r, d, f in os.walk("."))
    print(number, tree(), Path("old/new/config").read_text())
    print(Path("log.txt").read_text(), Path("runs/1/log").read_text())
    os.remove("lock")
    meet()
    print(tree())
"""

CHANGES = """
    import json, os, shutil
    from meeting import meet

    n = int(open("counter").read())
    open("counter", "w").write(str(n + 1))
    shutil.rmtree("old")
    os.makedirs("old/new")
    print(n, sorted(os.walk(".")) != [])
    meet()
    n = int(open("counter").read())
    open("counter", "w").write(str(n + 1))
    print(n, open("counter").read(), sorted(os.listdir("old")))
    with open("log.txt", "a") as f:
        f.write("first\\n")
    if os.path.exists("best"):
        print("somebody was here")
    open("best", "w").write("1")
    meet()
    state = json.load(open("state.json"))
    state["n"] += 1
    with open("state.new", "w") as f:
        json.dump(state, f)
    os.replace("state.new", "state.json")
    print(json.load(open("state.json")), sorted(os.listdir()))
    os.remove("gone")
    os.rename("moved", "moved2")
    print(open("moved2").read(), os.path.exists("moved"))
    meet()
    os.rename("data", "data2")
    os.mkdir("data")
    print(sorted(os.listdir("data2")), os.listdir("data"))
    with open("log.txt", "a") as f:
        f.write("second\\n")
    print(open("log.txt").read())
    shutil.rmtree("data2")
    print(sorted((r, sorted(d), sorted(f)) for r, d, f in os.walk(".")))
"""

APPENDS = """
    import logging, os
    from meeting import meet

    if not os.path.exists("new.csv"):
        with open("new.csv", "w") as f:
            f.write("a,b\\n")
    meet()
    logging.basicConfig(filename="l.log", level=logging.INFO, format="%(message)s")
    for epoch in range(3):
        logging.info("epoch %d", epoch)
        for name in ("log.txt", "other.csv"):
            with open(name, "a") as f:
                f.write(f"{epoch}\\n")
        with open("new.csv", "a") as f:
            f.write(f"{epoch},0\\n")
        print(open("log.txt").read(), open("other.csv").read(), open("new.csv").read())
        meet()
"""

SHUFFLES = """
    import glob, os, shutil
    from pathlib import Path
    from meeting import meet

    meet()
    shutil.copytree("data", "copy")
    shutil.copy2("counter", "copy/counter")
    shutil.move("copy", "elsewhere")
    print(sorted(glob.glob("**", recursive=True)))
    os.symlink("elsewhere", "link")
    os.symlink(os.path.abspath("data"), "absolute")
    print(sorted(os.listdir("link")), os.readlink("link"), Path("absolute/../counter").read_text())
    print(os.path.realpath("link/1") == os.path.abspath("elsewhere/1"))
    with os.scandir("link") as entries:
        print(sorted((e.name, e.path, e.is_file(), e.is_dir(), e.stat().st_size) for e in entries))
    meet()
    os.link("counter", "hard")
    with open("hard", "a") as f:
        f.write("!")
    print(open("counter").read(), os.stat("counter").st_nlink, os.path.samefile("hard", "counter"))
    os.chmod("hard", 0o600)
    os.truncate("hard", 1)
    os.utime("hard", (5, 6))
    print(oct(os.stat("hard").st_mode), os.stat("hard").st_mtime, os.path.getsize(b"hard"))
    os.chdir("elsewhere")
    print(os.path.basename(os.getcwd()), sorted(os.listdir()), open("../log.txt").read())
    os.chdir("..")
    os.mkdir("only")
    os.chdir("only")
    open("inside", "w").close()
    print(os.listdir(), os.path.basename(os.getcwd()), Path.cwd().name)
    os.chdir("..")
    for root, folders, files, _ in sorted(os.fwalk("elsewhere")):
        print(root, sorted(folders), sorted(files))
    shutil.rmtree("elsewhere")
    os.unlink("absolute")
    os.mkdir("elsewhere")
    print(os.listdir("link"), os.listdir(b"link"))
    os.removedirs("elsewhere")
    print(sorted(os.listdir()))
"""

FAILS = """
    import os
    from meeting import meet

    meet()
    for act in (
        lambda: open("none/x", "w"), lambda: open("none"), lambda: open("data"), lambda: open(""),
        lambda: open("log.txt", "x"), lambda: os.mkdir("data"), lambda: os.rmdir("data"),
        lambda: os.rmdir("log.txt"), lambda: os.rename("none", "x"), lambda: os.unlink("data"),
        lambda: os.rename("data", "log.txt"), lambda: os.rename("log.txt", "data"),
        lambda: os.rename("data", "old"), lambda: os.rename("data", "data/x"),
        lambda: os.stat("none"), lambda: os.stat("log.txt/x"), lambda: os.listdir("log.txt"),
        lambda: os.listdir("none"), lambda: os.scandir("none"), lambda: os.symlink("a", "data"),
        lambda: os.link("none", "x"), lambda: os.chmod("none", 0), lambda: os.readlink("data"),
        lambda: os.chdir("none"), lambda: os.truncate("none", 1), lambda: os.stat(100_000),
    ):
        try:
            act()
        except OSError as error:
            print(type(error).__name__, error)
    os.symlink("b", "a")
    os.symlink("a", "b")
    try:
        open("a")
    except OSError as error:
        print(error)
    print(os.access("data", os.R_OK), os.access("none", os.F_OK))
"""

LIBRARIES = """
    import bz2, os, pickle, sqlite3, tarfile, tempfile, zipfile
    import numpy as np
    from meeting import meet

    np.save("array.npy", np.arange(5))
    meet()
    np.save("twice.npy", np.load("array.npy") * 2)
    np.savez("many.npz", a=np.ones(3))
    np.arange(4.0).tofile("raw")
    np.savetxt("text", np.arange(3.0), fmt="%.2f")
    np.savetxt("text.gz", np.loadtxt("text") * 2)
    print(np.loadtxt("text.gz"), np.genfromtxt("text"), open("text").read())
    os.remove("text")
    os.remove("text.gz")
    print(np.load("twice.npy"), np.load("many.npz")["a"], np.fromfile("raw"))
    mapped = np.memmap("mapped", dtype="f4", mode="w+", shape=(4,))
    mapped[:] = 3
    mapped.flush()
    mapped = np.memmap("mapped", dtype="f4", mode="r+", shape=(4,))
    mapped[1] = 5
    mapped.flush()
    print(np.array(mapped))
    with sqlite3.connect("base") as base:
        base.execute("create table t(a)")
        base.execute("insert into t values (4)")
    print(sqlite3.connect("base").execute("select * from t").fetchall())
    meet()
    with tarfile.open("x.tar", "w") as tar:
        tar.add("raw")
    with tarfile.open("x.tar") as tar:
        tar.extractall("untarred", filter="data")
    with zipfile.ZipFile("y.zip", "w") as archive:
        archive.writestr("in/1", "hey")
    zipfile.ZipFile("y.zip").extractall("unzipped")
    with bz2.open("z.bz2", "wt") as f:
        f.write("packed")
    print(bz2.open("z.bz2", "rt").read(), os.listdir("untarred"), open("unzipped/in/1").read())
    os.remove("x.tar")
    os.remove("y.zip")
    with tempfile.NamedTemporaryFile("w+") as f:
        f.write("abc")
        f.flush()
        print(os.path.getsize(f.name), os.path.exists(f.name))
    with tempfile.TemporaryFile() as f:
        f.write(b"abc")
    print(os.path.exists("/proc/self"), open("/dev/null", "w").write("x"))
    print([pickle.loads(pickle.dumps(act)) is act for act in (os.remove, open)])
"""

CHILDREN = """
    import multiprocessing, os
    from meeting import meet

    def work(i):
        with open(f"w{i}", "w") as f:
            f.write(str(i * i))
        return open(f"w{i}").read()

    if __name__ == "__main__":
        meet()
        if os.fork() == 0:
            open("child", "w").write("c")
            os._exit(0)
        os.wait()
        print(open("child").read())
        for way in ("fork", "spawn", "forkserver"):
            with multiprocessing.get_context(way).Pool(2) as pool:
                print(way, pool.map(work, range(3)))
            print(sorted(os.listdir()), open("w2").read())
            for i in range(3):
                os.remove(f"w{i}")
"""

PROGRAMS = {
    "makes": MAKES,
    "again": AGAIN,
    "refuses": REFUSES,
    "changes": CHANGES,
    "appends": APPENDS,
    "shuffles": SHUFFLES,
    "fails": FAILS,
    "libraries": LIBRARIES,
    "children": CHILDREN,
}

TORCH = """
    import os, torch
    from torch.utils.data import DataLoader, TensorDataset
    from meeting import meet

    meet()
    torch.save({"a": torch.ones(3)}, "m.pt")
    print(torch.load("m.pt"), torch.load("m.pt", mmap=True)["a"].sum(), os.path.getsize("m.pt"))
    for act in (lambda: torch.save(1, "none/x"), lambda: torch.load("none")):
        try:
            act()
        except (RuntimeError, OSError) as error:
            print(type(error).__name__, error)
    torch.jit.script(torch.nn.Linear(2, 2)).save("script.pt")
    print(torch.jit.load("script.pt").weight.shape)
    os.remove("script.pt")
    meet()
    for rows in DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2, num_workers=2):
        print(rows)
    # the compiler writes sources, and runs a real compiler on them
    print(torch.compile(lambda x: (x * 2).sum())(torch.ones(3)))
    torch.save({"b": 1}, "m.pt")
    print(torch.load("m.pt"))
"""

TAKEN_OVER = """
    import os, shutil, sys
    from meeting import meet

    log = open("log.txt", "a")
    log.write("start\\n")
    meet()
    os.mkdir("run")
    rows = open("run/rows", "w")
    rows.write("1\\n")
    rows.flush()
    both = open("run/both", "w+b")
    both.write(b"0123456789")
    both.seek(3)
    os.remove("gone")
    open("counter", "w").write("8")
    os.mkdir("deep")
    os.chdir("deep")
    meet()
    print("partial", end=" ")
    sys.stdout.flush()
    meet("die")
    print("rest")
    os.chdir("..")
    os.mkdir("new")
    open("new/x", "x").close()
    open("state.json", "w").write("changed")
    os.rename("moved", "moved2")
    shutil.rmtree("old")
    log.write("more\\n")
    log.flush()
    open("log.txt", "a").write("at once\\n")
    meet()
    rows.write("2\\n")
    rows.flush()
    both.write(b"XY")
    both.seek(0)
    print(both.read())
    os.rename("run/rows", "run/rows2")
    rows.write("3\\n")
    rows.close()
    os.makedirs("old/x")
    print(sorted(os.listdir()), open("counter").read(), open("log.txt").read())
    log.close()
    print(sorted((r, sorted(d), sorted(f)) for r, d, f in os.walk(".")))
    sys.exit(5)
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ran]:
    """What plain python makes of the programs."""
    folder = tmp_path_factory.mktemp("plain")
    programs = PROGRAMS | {"taken over": TAKEN_OVER}
    return {
        name: alone(text, folder / name / "cwd", files=BEFORE) for name, text in programs.items()
    }


@pytest.mark.parametrize("order", ["leader", "follower", ""])
@pytest.mark.parametrize("name", PROGRAMS)
def test_both_see_what_the_script_alone_sees(
    name: str, order: str, plain: Mapping[str, Ran], tmp_path: Path
) -> None:
    ran = side_by_side(PROGRAMS[name], tmp_path / "cwd", order=order, files=BEFORE)
    _same(ran, plain[name])


@pytest.mark.slow
def test_torch(tmp_path: Path) -> None:
    expected = alone(TORCH, tmp_path / "plain" / "cwd")
    assert expected.err == ""
    _same(side_by_side(TORCH, tmp_path / "both" / "cwd", order="leader"), expected)


@pytest.mark.parametrize("ahead", ["leader", "follower", ""])
def test_a_follower_takes_over(ahead: str, plain: Mapping[str, Ran], tmp_path: Path) -> None:
    ran = side_by_side(TAKEN_OVER, tmp_path / "cwd", files=BEFORE, die="die", ahead=ahead)
    expected = plain["taken over"]
    assert (ran.err, ran.follower_err, ran.code) == ("", "", expected.code)
    assert ran.out == expected.out
    assert ran.files == expected.files


def test_a_follower_takes_over_from_another_file_system(
    plain: Mapping[str, Ran], tmp_path: Path
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as run_dir:
        ran = side_by_side(
            TAKEN_OVER, tmp_path / "cwd", files=BEFORE, die="die", run_dir=Path(run_dir)
        )
    assert (ran.err, ran.follower_err, ran.out) == ("", "", plain["taken over"].out)
    assert ran.files == plain["taken over"].files


def _same(ran: Ran, expected: Ran) -> None:
    assert (expected.err, ran.err, ran.follower_err) == ("", "", "")
    assert (ran.code, ran.follower_code) == (expected.code, expected.code)
    assert ran.out == expected.out
    assert ran.follower_out == expected.out
    assert ran.files == expected.files


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[FollowerFiles]:
    """A follower's files, put in place in this very process."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    files = FollowerFiles(str(run_dir), 1)
    files.install()
    yield files
    files.undo()


def test_everything_is_put_back(tmp_path: Path) -> None:
    run_dir = str(tmp_path)
    names = [name for name in dir(os) if callable(getattr(os, name))]
    before = [builtins.open, io.open, *(getattr(os, name) for name in names), os.supports_fd]
    for files in (LeaderFiles(run_dir), FollowerFiles(run_dir, 1)):
        files.install()
        assert builtins.open is io.open
        assert builtins.open is not before[0]
        files.undo()
        after = [builtins.open, io.open, *(getattr(os, name) for name in names), os.supports_fd]
        assert all(a is b for a, b in zip(before, after, strict=True))


def test_reading_is_direct_until_something_is_written(
    follower: FollowerFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    locate = View.locate

    def spy(self: View, path: object, **options: bool) -> object:
        looked.append(path)
        return locate(self, path, **options)

    monkeypatch.setattr(View, "locate", spy)
    assert follower.run_dir
    with open(__file__) as file:
        assert file.readline()
    assert os.path.exists(__file__)
    assert os.listdir(Path(__file__).parent)
    assert looked == []
    (tmp_path / "new").write_text("x")
    assert looked != []
    assert (tmp_path / "new").read_text() == "x"
    assert os.readlink("/proc/self/exe")


def test_what_is_large_is_there_for_followers_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    def write(name: str, size: int) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)

    small = ["out", "out/config", "out/deep", "out/deep/log", "cache/vocabulary", "gone"]
    large = ["data", "data/images", "data/labels", "data/deep", "data/deep/names", "weights", "url"]
    for name in ("out/config", "out/deep/log", "cache/vocabulary", "data/labels", "url"):
        write(name, 100)
    write("data/deep/names", LARGE // 2)
    write("data/images", LARGE // 2)
    write("weights", LARGE)
    early = {str(tmp_path / name) for name in small + large}
    assert sorted(made_again(early)) == sorted(str(tmp_path / name) for name in small[:-1])


def test_a_follower_leaves_the_disk_alone(follower: FollowerFiles, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("x")
    (tmp_path / "folder").mkdir()
    seen = sorted(path.name for path in tmp_path.iterdir())
    follower.undo()
    assert seen == ["folder", "new", "run"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_library_imported_later_is_taken_hold_of(
    follower: FollowerFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert follower.run_dir
    (tmp_path / "h5py.py").write_text(
        "class File:\n    def __init__(self, name, mode='r'):\n        self.name = name\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    # the import system reads the disk, where the follower's script has written nothing
    follower.undo()
    (tmp_path / "h5py.py").write_text(
        "class File:\n    def __init__(self, name, mode='r'):\n        self.name = name\n"
    )
    follower.install()
    monkeypatch.delitem(sys.modules, "h5py", raising=False)
    import h5py

    monkeypatch.delitem(sys.modules, "h5py")
    wanted = str(tmp_path / "x.h5")
    assert h5py.File(wanted, "w").name.endswith(wanted)
    assert h5py.File(wanted, "w").name != wanted
    assert h5py.File(wanted).name == wanted, "nothing is there to be read"


def test_records_of_two_logs_of_one_file_meet(tmp_path: Path) -> None:
    one, two = Log(str(tmp_path / "log")), Log(str(tmp_path / "log"))
    assert one.stamp == two.stamp == 0
    one.append("a", 1)
    first = two.stamp
    two.append("b", None)
    assert first not in (0, one.stamp)
    assert one.take() == two.take() == [["a", 1], ["b", None]]
    assert one.take() == []


def test_names_of_temporary_files_are_the_same_in_all_workers() -> None:
    one, two, other = SameNames("run"), SameNames("run"), SameNames("another")
    names = [next(one) for _ in range(3)]
    assert names == [next(two) for _ in range(3)]
    assert names != [next(other) for _ in range(3)]


def a_librarys_names(tmp_path: Path, folder: str) -> list[str]:
    """Two names that a library draws for temporary files in a folder, as ``tempfile`` does."""
    source = tmp_path / "site-packages" / "library.py"
    namespace = {"names": SameNames("run"), "__name__": "library", "dir": folder}
    exec(compile("got = [next(names), next(names)]", str(source), "exec"), namespace)
    return [str(name) for name in namespace["got"]]


def test_names_of_a_librarys_temporary_files_are_its_own(tmp_path: Path) -> None:
    for folder in (tempfile.gettempdir(), str(tmp_path / f"made{MARK}before")):
        first, second = a_librarys_names(tmp_path, folder)
        assert first != second
        assert first.startswith(MARK)
        assert second.startswith(MARK)


def test_a_library_that_saves_for_the_script_has_its_names(tmp_path: Path) -> None:
    names = SameNames("run")
    assert a_librarys_names(tmp_path, str(tmp_path)) == [next(names), next(names)]
