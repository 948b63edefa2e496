"""Archives: everything can be read back, every change is detected, and any run may be interrupted."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_traffic import POLICY, Installation
from filelock import FileLock

from conduit_learner.audit import archiving
from conduit_learner.audit.archive import Archive, ArchiveError
from conduit_learner.audit.archiving import Archived, archive
from conduit_learner.audit.history import BlockingLog
from conduit_learner.audit.replay import rebuild
from conduit_learner.audit.restore import restore
from conduit_learner.audit.verification import verify
from conduit_log import Message, StoredMessage
from conduit_log.embedded import EmbeddedLog
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError, Topics

TOPICS = Topics()


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation().run(120)


@contextmanager
def opened(path: Path, topics: Topics = TOPICS) -> Iterator[BlockingLog]:
    with BlockingLog(EmbeddedLog(path, topics=topics, retention_s=None), topics) as log:
        yield log


def fill(path: Path, messages: list[StoredMessage]) -> None:
    async def load() -> None:
        async with EmbeddedLog(path, topics=TOPICS, retention_s=None) as log:
            await log.load(TOPICS.events, messages)

    asyncio.run(load())


def run(path: Path, folder: Path) -> Archived:
    with opened(path) as log:
        (archived,) = archive(log, folder)
    return archived


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_ROWS", 100)


def test_everything_comes_back(installation: Installation, tmp_path: Path, small_files: None) -> None:
    fill(tmp_path, installation.log)
    count = len(installation.log)
    archived = run(tmp_path, tmp_path / "archive")
    assert archived == Archived(0, 0, count, count, -(-count // 100), is_provable=True)
    history = Archive(tmp_path / "archive").history(POLICY)
    assert list(history) == list(history) == installation.log
    assert (history.first, history.end, history.partition, history.published) == (0, count, 0, ())
    assert rebuild(history, POLICY) == installation.learner.snapshot(POLICY)
    result = verify(history, POLICY)
    assert (result.decisions_matched, result.mismatched) == (100, 0)


def test_any_parquet_reader_can_use_it(installation: Installation, tmp_path: Path) -> None:
    fill(tmp_path, installation.log)
    run(tmp_path, tmp_path / "archive")
    (file,) = (tmp_path / "archive" / "partition-00000").glob("*.parquet")
    assert file.name == f"{0:020}-{len(installation.log) - 1:020}.parquet"
    rows = pq.ParquetFile(file).read().to_pylist()
    assert rows[7] == dict(zip(StoredMessage._fields, installation.log[7], strict=True))


def test_a_second_run_adds_what_is_new(installation: Installation, tmp_path: Path, small_files: None) -> None:
    fill(tmp_path, installation.log[:150])
    first = run(tmp_path, tmp_path / "archive")
    assert (first.messages, first.files) == (150, 2)
    assert run(tmp_path, tmp_path / "archive") == Archived(0, 0, 150, 0, 0, is_provable=True)
    fill(tmp_path, installation.log[150:])
    second = run(tmp_path, tmp_path / "archive")
    assert (second.messages, second.end) == (len(installation.log) - 150, len(installation.log))
    assert list(Archive(tmp_path / "archive").partition(0)) == installation.log


def test_a_run_cut_short_is_continued(
    installation: Installation, tmp_path: Path, small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, installation.log)
    write, calls = archiving.pq.write_table, []

    def interrupted(table: object, file: object, **options: object) -> None:
        calls.append(table)
        file.write(b"half a file")  # type: ignore[attr-defined]  # it is open for writing
        if len(calls) == 2:
            raise KeyboardInterrupt
        file.seek(0)  # type: ignore[attr-defined]  # as above
        write(table, file, **options)

    monkeypatch.setattr(archiving.pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "archive")
    assert list((tmp_path / "archive").rglob("*.partial")) != []
    assert list(Archive(tmp_path / "archive").partition(0)) == installation.log[:100]
    monkeypatch.setattr(archiving.pq, "write_table", write)
    assert run(tmp_path, tmp_path / "archive").messages == len(installation.log) - 100
    assert list((tmp_path / "archive").rglob("*.partial")) == []
    assert list(Archive(tmp_path / "archive").partition(0)) == installation.log


def test_large_records_make_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "_BYTES", 10_000)
    fill(tmp_path, [StoredMessage(0, n, n, b"p", bytes(3_000)) for n in range(10)])
    assert run(tmp_path, tmp_path / "archive").files == 3


def test_every_partition_has_its_folder(tmp_path: Path) -> None:
    with BlockingLog(MemoryLog(TOPICS, partitions=3), TOPICS) as log:
        log.append(TOPICS.events, [Message(f"default/{n % 7}".encode(), b"%d" % n) for n in range(100)])
        done: list[int] = []
        archived = archive(log, tmp_path, progress=done.append)
        assert sum(done) == sum(part.messages for part in archived) == 100
        found = Archive(tmp_path)
        assert found.partitions() == [0, 1, 2]
        for number in range(7):
            policy = f"default/{number}"
            assert found.history(policy).partition == log.history(policy).partition
        assert [list(found.partition(number)) for number in range(3)] == [list(log.partition(n)) for n in range(3)]
        (only,) = archive(log, tmp_path / "one", [2])
        assert Archive(tmp_path / "one").partitions() == [only.partition] == [2]
    with pytest.raises(ConfigurationError, match="holds no event of policy 'default/none'"):
        found.history("default/none")
    with pytest.raises(ConfigurationError, match="holds no archive"):
        Archive(tmp_path / "partition-00000")


class TestDamage:
    @pytest.fixture
    def files(self, installation: Installation, tmp_path: Path, small_files: None) -> list[Path]:
        fill(tmp_path, installation.log)
        run(tmp_path, tmp_path / "archive")
        return sorted((tmp_path / "archive" / "partition-00000").glob("*.parquet"))

    def refused(self, files: list[Path], reason: str) -> None:
        with pytest.raises(ArchiveError, match=reason):
            list(Archive(files[0].parents[1]).partition(0))

    def rewrite(self, file: Path, column: str, change: object, metadata: dict[str, object] | None = None) -> None:
        table = pq.ParquetFile(file).read()
        values = table[column].to_pylist()
        values[3] = change(values[3])  # type: ignore[operator]  # a function of one value
        field = table.schema.field(column)
        changed = table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
        fields = {**json.loads(table.schema.metadata[b"conduit"]), **(metadata or {})}
        pq.write_table(changed.replace_schema_metadata({b"conduit": json.dumps(fields).encode()}), file)

    @pytest.mark.parametrize(
        ("column", "change"),
        [
            ("value", lambda value: value.replace(b"0", b"1", 1)),
            ("key", lambda key: key + b"x"),
            ("time_ms", lambda time_ms: time_ms + 1),
            ("offset", lambda offset: offset + 1_000),
            ("partition", lambda partition: partition + 1),
        ],
    )
    def test_a_changed_value_is_noticed(self, files: list[Path], column: str, change: object) -> None:
        self.rewrite(files[1], column, change)
        self.refused(files, f"{files[1].name} is damaged or was changed")

    def test_a_file_with_a_digest_of_its_own_is_noticed(self, files: list[Path]) -> None:
        messages = [StoredMessage(*row.values()) for row in pq.ParquetFile(files[1]).read().to_pylist()]
        forged = [messages[0]._replace(value=b"forged"), *messages[1:]]
        before = json.loads(pq.read_schema(files[1]).metadata[b"conduit"])["before"]
        archiving._write(files[1].parent, TOPICS.events, forged, before)
        self.refused(files, f"{files[2].name} does not continue the previous file")

    def test_a_missing_file_is_noticed(self, files: list[Path]) -> None:
        files[1].unlink()
        self.refused(files, "a file is missing or was changed")

    def test_a_missing_first_file_is_noticed(self, files: list[Path]) -> None:
        files[0].unlink()
        self.refused(files, "the files before it are missing")

    def test_a_cut_file_is_noticed(self, files: list[Path]) -> None:
        files[0].write_bytes(files[0].read_bytes()[:-100])
        self.refused(files, files[0].name)

    def test_another_programs_file_is_noticed(self, files: list[Path]) -> None:
        table = pq.ParquetFile(files[0]).read()
        pq.write_table(table.replace_schema_metadata({}), files[0])
        self.refused(files, "damaged or does not belong to an archive")

    def test_other_columns_are_noticed(self, files: list[Path]) -> None:
        table = pq.ParquetFile(files[0]).read()
        pq.write_table(table.drop_columns(["key"]), files[0])
        self.refused(files, "has the columns")

    def test_a_newer_format_is_refused(self, files: list[Path]) -> None:
        self.rewrite(files[0], "time_ms", lambda time_ms: time_ms, {"format": 2})
        self.refused(files, "has format 2, but this release reads 1: upgrade Conduit")


class TestAnotherLog:
    def test_one_with_other_events_is_refused(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path / "one", installation.log[:50])
        fill(tmp_path / "two", installation.tampered(49, time=5.0))
        run(tmp_path / "one", tmp_path / "archive")
        with pytest.raises(ArchiveError, match=r"of another log.*they differ at offset 49"):
            run(tmp_path / "two", tmp_path / "archive")

    def test_a_shorter_one_is_refused(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path / "one", installation.log[:50])
        fill(tmp_path / "two", installation.log[:49])
        run(tmp_path / "one", tmp_path / "archive")
        with pytest.raises(ArchiveError, match=r"of another log.*ends at offset 50, the log at 49"):
            run(tmp_path / "two", tmp_path / "archive")

    def test_one_of_another_name_is_refused(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path / "one", installation.log[:50])
        run(tmp_path / "one", tmp_path / "archive")
        another_name = r"holds topic 'conduit.events', not 'other.events'"
        with opened(tmp_path / "two", Topics("other")) as log, pytest.raises(ArchiveError, match=another_name):
            archive(log, tmp_path / "archive")


class TestTrimmed:
    """The log has deleted old events."""

    def test_a_gap_is_refused(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path / "one", installation.log[:50])
        run(tmp_path / "one", tmp_path / "archive")
        fill(tmp_path / "two", installation.log[51:])
        with pytest.raises(ArchiveError, match="ends at offset 50, but the log starts at 51"):
            run(tmp_path / "two", tmp_path / "archive")

    def test_what_follows_without_a_gap_is_added(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path / "one", installation.log[:50])
        run(tmp_path / "one", tmp_path / "archive")
        fill(tmp_path / "two", installation.log[50:])
        assert run(tmp_path / "two", tmp_path / "archive").messages == len(installation.log) - 50
        assert list(Archive(tmp_path / "archive").partition(0)) == installation.log

    def test_a_log_that_holds_nothing_any_more_adds_nothing(
        self, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("conduit_log.reading._POLL_S", 0.01)
        fill(tmp_path, installation.log[:3])
        run(tmp_path, tmp_path / "archive")
        with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as sql, sql:
            sql.execute(f'DELETE FROM "{TOPICS.events}"')
        assert run(tmp_path, tmp_path / "archive").messages == 0

    def test_a_late_archive_begins_with_a_checkpoint(self, tmp_path: Path) -> None:
        made = Installation().run(100)
        made.checkpoint()
        made.run(50, seed=1)
        fill(tmp_path, made.log[1:])
        with opened(tmp_path) as log:
            log.append(TOPICS.checkpoints, [Message(*item) for item in made.checkpoints.items()])
            log.append(TOPICS.checkpoints, [Message(b"7/0", b"another partition's")])
            (archived,) = archive(log, tmp_path / "archive")
        assert (archived.first, archived.is_provable) == (1, True)
        history = Archive(tmp_path / "archive").history(POLICY)
        assert history.checkpoints() == made.checkpoints
        assert rebuild(history, POLICY, checkpoints=history.checkpoints) == made.learner.snapshot(POLICY)

    def test_without_a_checkpoint_it_says_so(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path, installation.log[1:])
        assert not run(tmp_path, tmp_path / "archive").is_provable
        assert Archive(tmp_path / "archive").partition(0).checkpoints() == {}


def test_two_writers_do_not_mix(installation: Installation, tmp_path: Path) -> None:
    fill(tmp_path, installation.log)
    (tmp_path / "archive").mkdir()
    with (
        FileLock(tmp_path / "archive" / "archive.lock"),
        pytest.raises(ArchiveError, match="another process is writing"),
    ):
        run(tmp_path, tmp_path / "archive")


def test_a_folder_that_cannot_be_made_is_named(installation: Installation, tmp_path: Path) -> None:
    fill(tmp_path, installation.log[:3])
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ArchiveError, match="file/archive"):
        run(tmp_path, tmp_path / "file" / "archive")


class TestRestore:
    def restored(self, folder: Path, path: Path) -> int:
        async def load() -> int:
            async with EmbeddedLog(path, topics=TOPICS, retention_s=None) as log:
                return await restore(Archive(folder), log)

        return asyncio.run(load())

    def test_snapshots_are_the_same_hash_for_hash(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path, installation.log)
        run(tmp_path, tmp_path / "archive")
        assert self.restored(tmp_path / "archive", tmp_path / "new") == len(installation.log)
        with opened(tmp_path / "new") as log:
            history = log.history(POLICY)
            assert list(history) == installation.log
            assert verify(history, POLICY).mismatched == 0
            assert rebuild(history, POLICY).hash == installation.learner.snapshot(POLICY).hash
            log.append(TOPICS.events, [Message(b"p", b"new")])
            (newest,) = log.partition(0).since(len(installation.log))
            assert newest.value == b"new" and newest.time_ms > installation.log[-1].time_ms

    def test_what_was_begun_is_continued(
        self, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("conduit_learner.audit.restore._BATCH", 64)
        fill(tmp_path, installation.log)
        run(tmp_path, tmp_path / "archive")
        fill(tmp_path / "new", installation.log[:70])
        assert self.restored(tmp_path / "archive", tmp_path / "new") == len(installation.log) - 70
        assert self.restored(tmp_path / "archive", tmp_path / "new") == 0
        with opened(tmp_path / "new") as log:
            assert list(log.partition(0)) == installation.log

    def test_a_log_with_other_events_is_left_alone(self, installation: Installation, tmp_path: Path) -> None:
        fill(tmp_path / "source", installation.log[:50])
        run(tmp_path / "source", tmp_path / "archive")
        fill(tmp_path / "other", installation.tampered(5, time=5.0)[:6])
        fill(tmp_path / "longer", installation.log[:60])
        for name in ("other", "longer"):
            with pytest.raises(ConfigurationError, match="already holds other events"):
                self.restored(tmp_path / "archive", tmp_path / name)

    def test_what_cannot_be_exact_is_refused(self, installation: Installation, tmp_path: Path) -> None:
        with BlockingLog(MemoryLog(TOPICS, partitions=3), TOPICS) as log:
            log.append(TOPICS.events, [Message(b"%d" % n, b"x") for n in range(50)])
            archive(log, tmp_path / "many")
        fill(tmp_path, installation.log[1:])
        run(tmp_path, tmp_path / "late")
        for name in ("many", "late"):
            with pytest.raises(ConfigurationError, match="cannot be restored exactly"):
                self.restored(tmp_path / name, tmp_path / "new")

    async def test_a_log_has_no_room_for_offsets_it_has_given(self, tmp_path: Path) -> None:
        async with EmbeddedLog(tmp_path, topics=TOPICS) as log:
            await log.load(TOPICS.events, [])
            await log.load(TOPICS.events, [StoredMessage(0, 4, 10, b"p", b"x")])
            with pytest.raises(
                ConfigurationError,
                match="already reaches offset 5, so nothing can be loaded at 4; load into an empty log",
            ):
                await log.load(TOPICS.events, [StoredMessage(0, 4, 10, b"p", b"y")])
