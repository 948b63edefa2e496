import tomllib
from pathlib import Path

import conduit_litellm


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert conduit_litellm.__version__ == project["version"]
