"""Installs what the tests need beyond Python packages: ``python3 tests/system_packages.py venv browser broker``.

On Debian and its relatives root gets the packages by apt-get. Anybody else is told in one line what is missing, and the
tests that need it say so again. Only the standard library is used: this runs before there is a virtual environment.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple


class Need(NamedTuple):
    """Something that the operating system must provide."""

    what: str
    is_there: Callable[[], bool]
    packages: tuple[str, ...]
    """The names of Debian's packages."""


def has_java() -> bool:
    """Return whether there is a Java that can run Kafka."""
    if shutil.which("java") is None:
        return False
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return version is not None and int(version[1]) >= 17


NEEDS = {
    "venv": Need("Python's venv", lambda: find_spec("ensurepip") is not None, ("python3-venv",)),
    "browser": Need(
        "Chromium and its driver, for the tests of the web page",
        lambda: bool(os.environ.get("CONDUIT_TEST_CHROMEDRIVER") or shutil.which("chromedriver")),
        ("chromium", "chromium-driver", "fonts-dejavu-core"),
    ),
    # A Docker engine can run all brokers except the one whose listener has certificates.
    "broker": Need(
        "Java 17 or newer and Maven, for the tests on Kafka",
        lambda: has_java() and shutil.which("mvn") is not None,
        ("default-jre-headless", "maven"),
    ),
}


def main(names: list[str]) -> None:
    """Install what is missing, or say what that is."""
    missing = [NEEDS[name] for name in names if not NEEDS[name].is_there()]
    if not missing:
        return
    packages = [package for need in missing for package in need.packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        whats = "; ".join(need.what for need in missing)
        print(f"missing: {whats} (Debian: apt-get install {' '.join(packages)})", file=sys.stderr)
        return
    print(f"installing {' '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-yqq", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"apt-get {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}", file=sys.stderr)
            return


if __name__ == "__main__":
    main(sys.argv[1:])
