"""Count all models of some model libraries: ``make zoo``. If a run was interrupted, the next one continues it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from model_zoo import page, results

#: A model that takes longer is given up.
SECONDS = 60
#: So many models are checked by one process: to start one takes longer than to check a small model.
PER_PROCESS = 100
#: A model that needs more bytes is an exception on the page.
MEMORY = 10 * 2**30


def main() -> None:
    arguments = _arguments()
    if arguments.worker:
        _work(arguments.worker, json.loads(sys.stdin.read()))
        return
    if arguments.again:
        results.forget(lambda row: not results.is_counted(row) and arguments.library in {None, row["library"]})
    if not arguments.page:
        for library in [arguments.library] if arguments.library else results.LIBRARIES:
            _sweep(library)
    page.write()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="model_zoo", description=__doc__)
    parser.add_argument("--library", choices=results.LIBRARIES, help="only this library")
    parser.add_argument("--again", action="store_true", help="check once more what was not counted")
    parser.add_argument("--page", action="store_true", help="only write the page, from what was found before")
    parser.add_argument("--worker", choices=results.LIBRARIES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _work(library: str, names: list[str]) -> None:
    """Check the named models in this process. If there are no names, print the names of all models."""
    from model_zoo import environment  # noqa: F401 -- before a library imports torchvision
    from model_zoo.libraries import LIBRARIES

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    listed, check = LIBRARIES[library]
    if not names:
        sys.stdout.write(f"\n{json.dumps(listed())}")
    for name in names:
        try:
            found = check(name)
        except Exception as error:  # noqa: BLE001 -- an exception is a finding too
            found = {"skipped": [f"{type(error).__name__}: {str(error)[:200]}"]}
        results.append({"library": library, "name": name, **found})


def _worker(library: str, names: list[str], **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "model_zoo", "--worker", library]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, **options)  # noqa: S603
    if process.stdin:
        process.stdin.write(json.dumps(names))
        process.stdin.close()
    return process


def _sweep(library: str) -> None:
    lister = _worker(library, [], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    text = lister.stdout.read() if lister.stdout else ""
    if lister.wait():
        results.append({"library": library, "name": "", "skipped": ["it cannot be imported"]})
        return
    names = json.loads(text.splitlines()[-1])
    while pending := _left(library, names):
        batch = pending[:PER_PROCESS]
        process = _worker(library, batch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        changed, size = time.monotonic(), results.size()
        while process.poll() is None and time.monotonic() - changed < SECONDS:
            time.sleep(0.2)
            if results.size() != size:
                changed, size = time.monotonic(), results.size()
        late = process.poll() is None
        process.kill()
        process.wait()
        if left := _left(library, batch):
            reason = f"not done in {SECONDS} s" if late else f"the process ended with {process.returncode}"
            results.append({"library": library, "name": left[0], "skipped": [reason]})


def _left(library: str, names: list[str]) -> list[str]:
    done = results.done()
    return [name for name in names if (library, name) not in done]


if __name__ == "__main__":
    main()
