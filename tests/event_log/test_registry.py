"""How addresses name logs, and which adapter opens them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import folder_log
import pytest
from folder_log import FolderLog, offer

from conduit_log import EventLog, LoadableLog, LogSettings, known_schemes, open_log, register
from conduit_log.embedded import EmbeddedLog
from conduit_log.kafka import KafkaLog
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError

KAFKA = "kafka://a:1,b:2"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONDUIT_LOG", "CONDUIT_BOOTSTRAP_SERVERS", "CONDUIT_HOME", "CONDUIT_TOPIC_PREFIX"):
        monkeypatch.delenv(name, raising=False)


class TestAddresses:
    def test_each_old_name_of_a_log_is_an_address(self) -> None:
        assert LogSettings(bootstrap_servers="a:1,b:2").address == LogSettings(log=KAFKA).address
        assert str(LogSettings(path=Path("/var/conduit")).address) == "file:///var/conduit"
        assert str(LogSettings(path=Path("here")).address) == "file:here"

    @pytest.mark.parametrize(
        ("address", "folder"),
        [
            ("file:///var/my logs", "/var/my logs"),
            ("file:/var/conduit", "/var/conduit"),
            ("FILE:below/here", "below/here"),
            ("file:~/conduit", str(Path.home() / "conduit")),
            ("file:", "/home/of/conduit"),
        ],
    )
    def test_a_file_address_names_a_folder(self, address: str, folder: str) -> None:
        log = open_log(LogSettings(log=address, path=Path("/home/of/conduit")))
        assert isinstance(log, EmbeddedLog)
        assert log.path == Path(folder)
        assert log.title == f"embedded log in {folder}"

    @pytest.mark.parametrize(
        ("servers", "shown"),
        [
            ("a:1,b:2", "a:1,b:2"),
            ("a:1, b:2,/", "a:1,b:2"),
            ("kafka", "kafka"),
            ("[::1]:9092,[::2]", "[::1]:9092,[::2]"),
            ("::1", "::1"),
        ],
    )
    def test_a_kafka_address_names_brokers(self, servers: str, shown: str) -> None:
        log = open_log(LogSettings(log=f"kafka://{servers}"))
        assert isinstance(log, KafkaLog)
        assert log.title == f"Kafka at {shown}"

    @pytest.mark.parametrize(
        ("address", "said"),
        [
            ("", "is not an address: it has no scheme; write, for example, kafka://HOST:PORT or file:///FOLDER"),
            ("/var/lib/conduit", "'/var/lib/conduit' is not an address"),
            ("kafka://", "'kafka://' names no Kafka brokers: write kafka://HOST:PORT or bootstrap_servers="),
            ("kafka:9092", "'kafka:9092' names no Kafka brokers: write kafka://HOST:PORT"),
            ("kafka://a:port", "'a:port' is not HOST:PORT"),
            ("kafka://a:1/topic", "'a:1/topic' is not HOST:PORT"),
            ("kafka://me:secret@a:1", "log 'kafka://a:1' names no Kafka brokers.*user and password are Kafka options"),
            ("file://server/share", "'file://server/share' names a machine, 'server'.*write file:///FOLDER"),
            ("localhost:9092", "no adapter for the scheme 'localhost'.*known ones are file.*brokers are kafka://HOST:"),
            ("nats://me:secret@n:4222", r"log 'nats://n:4222': no adapter .* file, .*kafka, .*memory.*install"),
        ],
    )
    def test_one_that_is_no_use_is_explained(self, address: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said) as error:
            open_log(LogSettings(log=address))
        assert "secret" not in str(error.value)

    def test_no_password_is_shown(self) -> None:
        settings = LogSettings(log="nats://me:secret@n:4222/x?y=a@b")
        assert settings.address.rest == "//me:secret@n:4222/x?y=a@b"
        assert settings.address.location == "n:4222/x?y=a@b"
        for shown in (repr(settings), str(settings.address), repr(settings.address)):
            assert "secret" not in shown


class TestResolving:
    @pytest.mark.parametrize(
        ("environment", "arguments", "address"),
        [
            ({"LOG": KAFKA}, {}, KAFKA),
            ({"LOG": KAFKA}, {"bootstrap_servers": "c:3"}, "kafka://c:3"),
            ({"BOOTSTRAP_SERVERS": "c:3"}, {"log": "memory:"}, "memory:"),
            ({"LOG": KAFKA}, {"path": Path("/spool")}, KAFKA),
            ({"LOG": "file:///a"}, {"path": Path("/b")}, "file:///b"),
            ({"LOG": "file:///a", "HOME": "/b"}, {}, "file:///a"),
            ({"LOG": "file:///a"}, {"log": "file:///c", "path": Path("/b")}, "file:///c"),
        ],
    )
    def test_an_argument_is_stronger_than_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: dict[str, Any], address: str
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(f"CONDUIT_{name}", value)
        assert str(LogSettings.resolve(**arguments).address) == address

    def test_two_places_at_once_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match="both say where the log is; give only one of them"):
            LogSettings.resolve(log="memory:", bootstrap_servers="a:1")
        monkeypatch.setenv("CONDUIT_LOG", KAFKA)
        monkeypatch.setenv("CONDUIT_BOOTSTRAP_SERVERS", "a:1")
        with pytest.raises(ConfigurationError, match="CONDUIT_LOG and CONDUIT_BOOTSTRAP_SERVERS both"):
            LogSettings.resolve()

    def test_the_variable_of_a_bad_address_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CONDUIT_LOG", "somewhere")
        with pytest.raises(ConfigurationError, match="CONDUIT_LOG: log 'somewhere' is not an address"):
            LogSettings.resolve()


class TestAdapters:
    def test_a_process_registers_one(self) -> None:
        register("registered-folder", FolderLog)
        register("registered-folder", FolderLog)
        assert isinstance(open_log(LogSettings(log="registered-folder:/where")), FolderLog)
        assert "registered-folder" in known_schemes()
        with pytest.raises(ConfigurationError, match="already a log adapter for 'registered-folder'"):
            register("registered-folder", lambda settings: MemoryLog(settings.topics))

    @pytest.mark.parametrize("scheme", ["kafka", "Upper", "no scheme", ""])
    def test_a_scheme_that_cannot_be_had(self, scheme: str) -> None:
        with pytest.raises(ConfigurationError):
            register(scheme, FolderLog)

    def test_a_package_offers_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        offer(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        assert "folder" in known_schemes()
        assert type(open_log(LogSettings(log=f"folder:{tmp_path}"))).__name__ == "FolderLog"

    def test_one_that_cannot_be_loaded_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        offer(tmp_path, "no_such_module:Log")
        monkeypatch.syspath_prepend(str(tmp_path))
        said = "its adapter no_such_module:Log cannot be loaded: ModuleNotFoundError.*install its package again"
        with pytest.raises(ConfigurationError, match=said):
            open_log(LogSettings(log="folder:/where"))

    @pytest.mark.process
    @pytest.mark.parametrize("address", ["file:///nowhere", "memory:", "folder:/nowhere"])
    def test_a_log_needs_no_other_logs_library(self, address: str, tmp_path: Path) -> None:
        offer(tmp_path)
        program = (
            "import sys; from conduit_log import LogSettings, known_schemes, open_log; known_schemes(); "
            f"open_log(LogSettings(log={address!r})); "
            "print('aiokafka' in sys.modules, 'conduit_log.embedded' in sys.modules)"
        )
        paths = [*sys.path, str(tmp_path), str(Path(folder_log.__file__).parent)]
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {paths!r}; {program}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["False", str(address.startswith("file"))], done.stderr

    def test_who_takes_old_messages_says_so(self, tmp_path: Path) -> None:
        logs: list[EventLog] = [open_log(LogSettings(log=address)) for address in ("file:/x", "memory:", KAFKA)]
        assert [isinstance(log, LoadableLog) for log in logs] == [True, False, False]

    def test_looking_for_a_log_makes_none(self, tmp_path: Path) -> None:
        for log in (open_log(LogSettings(path=tmp_path / "log")), FolderLog(LogSettings(log=f"folder:{tmp_path}/f"))):
            assert not log.exists()
        assert list(tmp_path.iterdir()) == []


async def test_threads_share_the_memory_of_a_process() -> None:
    one = open_log(LogSettings(log="memory:shared"))
    assert one is open_log(LogSettings(log="memory:shared"))
    assert one is not open_log(LogSettings(log="memory:shared", prefix="other"))
    assert one is not open_log(LogSettings(log="memory:"))
