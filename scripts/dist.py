"""`make dist`: build the wheel and the sdist of the newest commit twice, compare and check them, and try the wheel.

The distributions are built from the files of the commit, in two folders with different times and permissions. Their
bytes must not differ: times inside of them are SOURCE_DATE_EPOCH, that of the commit. The wheel is installed into an
empty environment, which borrows the packages that the wheel needs from the present one, because PyTorch is large. The
examples then run there. The SBOM lists the packages that the wheel needs, with the versions of the present environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NAME = "pytest-flopsbudget"


def main() -> int:
    """Write the wheel, the sdist and the SBOM to dist/.

    Returns:
        1 if the two builds differ. Every other problem raises the error of the program that found it.
    """
    dirty = output("git", "status", "--porcelain")
    if dirty:
        print(f"not committed, and so not in the distributions:\n{dirty}")
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "one"), Path(folder, "a", "longer", "other")
        builds = [build(one, mask=0o022), build(other, mask=0o077)]
        first, second = ({path.name: path.read_bytes() for path in build.iterdir()} for build in builds)
        if first != second:
            names = sorted(name for name in first | second if first.get(name) != second.get(name))
            print(f"two builds of one commit differ: {', '.join(names)}")
            return 1
        print(f"two builds of one commit are equal: {', '.join(sorted(first))}")
        python("-m", "twine", "check", "--strict", *map(str, sorted(builds[0].iterdir())))
        wheel = next(builds[0].glob("*.whl"))
        try_wheel(wheel, examples=one / "docs" / "examples", folder=Path(folder, "environment"))
        dist = ROOT / "dist"
        shutil.rmtree(dist, ignore_errors=True)
        shutil.copytree(builds[0], dist)
        write_sbom(dist / f"{wheel.name.removesuffix('-py3-none-any.whl')}.cdx.json", Path(folder))
    print(f"written to {dist}: {', '.join(sorted(path.name for path in dist.iterdir()))}")
    return 0


def output(*command: str) -> str:
    """Run a program in the repository, and return its output."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def python(*arguments: str, **environment: str) -> None:
    """Run the present Python."""
    subprocess.run([sys.executable, *arguments], check=True, env=os.environ | environment)


def build(folder: Path, *, mask: int) -> Path:
    """Build from the files of the newest commit in ``folder``, and return the folder of the distributions."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout  # noqa: S607
    before = os.umask(mask)
    try:
        folder.mkdir(parents=True)
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            # Without the times and permissions of the archive: those of the machine must not matter.
            for member in files:
                target = folder / member.name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                elif member.isfile() and (content := files.extractfile(member)):
                    target.write_bytes(content.read())
        distributions = folder.with_name(f"{folder.name}-dist")
        epoch = output("git", "log", "-1", "--format=%ct")
        python(
            "-m", "build", "--no-isolation", "--outdir", str(distributions), str(folder), SOURCE_DATE_EPOCH=epoch
        )  # fmt: skip
    finally:
        os.umask(before)
    return distributions


def try_wheel(wheel: Path, examples: Path, folder: Path) -> None:
    """Install the wheel into a new environment in ``folder``, and run the examples with it, away from the sources."""
    python("-m", "venv", str(folder))
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    place = subprocess.run(
        [interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    # Later on the path than the environment's own packages: the wheel is found before an editable install.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    Path(place, "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    quiet = ["--quiet", "--disable-pip-version-check"]
    # venv of Python 3.11 and older brings an old setuptools.
    subprocess.run([interpreter, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"], check=True)
    # Without the index: pip fails if a package that the wheel needs is not borrowed, or has the wrong version.
    subprocess.run(
        [interpreter, "-m", "pip", "install", *quiet, "--no-index", "--ignore-installed", "--no-deps", wheel],
        check=True,
    )
    subprocess.run([interpreter, "-m", "pip", "install", *quiet, "--no-index", wheel], check=True)
    found = subprocess.run(
        [interpreter, "-c", "import pytest_flopsbudget as p; print(p.__version__, p.__file__)"],
        check=True, capture_output=True, text=True, cwd=folder,
    ).stdout.split()  # fmt: skip
    version = wheel.name.split("-")[1]
    if found[0] != version or not Path(found[1]).is_relative_to(place):
        raise SystemExit(f"the environment of the wheel {wheel.name} imports {' '.join(found)}")
    away = folder / "examples"
    shutil.copytree(examples, away)
    subprocess.run(
        [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_models.py"], cwd=away, check=True
    )
    subprocess.run([interpreter, "-m", "pytest_flopsbudget", "--version"], cwd=away, check=True)
    print(f"the examples pass with the installed {wheel.name}")


def write_sbom(path: Path, folder: Path) -> None:
    """Write the software bill of materials in CycloneDX's format."""
    listed = folder / "requirements.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in sorted(needed().items())), encoding="utf-8")
    python(
        "-m", "cyclonedx_py", "requirements", str(listed), "--pyproject", str(ROOT / "pyproject.toml"),
        "--mc-type", "library", "--output-reproducible", "--of", "JSON", "-o", str(path),
    )  # fmt: skip


def needed() -> dict[str, str]:
    """Return name → version of the packages that the wheel needs, and that these need, without extras."""
    found: dict[str, str] = {}
    waiting = [NAME]
    while waiting:
        for text in distribution(waiting.pop()).requires or ():
            requirement = Requirement(text)
            if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            try:
                found[requirement.name] = distribution(requirement.name).version
            except PackageNotFoundError as error:
                raise SystemExit(f"{requirement.name} is needed and not installed; run make dist again") from error
            waiting.append(requirement.name)
    return found


if __name__ == "__main__":
    sys.exit(main())
