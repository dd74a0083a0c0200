"""The machinery of the power-cut matrix: the write log, the choice of cuts, the rebuilt disk."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.powercut.bootloader import Uki, boot_order
from tests.powercut.cuts import Cut, Fate, choose, last_flush, survivors
from tests.powercut.recording import Recording, decides
from tests.powercut.replay import Region, Replay
from tests.powercut.writelog import SECTOR, WriteLog

MAGIC = 0x6A736677736872
Raw = tuple[int, int, int, bytes]  # sector, sectors, flags, data
MakeLog = Callable[..., WriteLog]
FLUSH: Raw = (0, 0, 1, b"")
DISK = 64 * SECTOR


def write(sector: int, letters: bytes) -> Raw:
    """Return an entry that fills one sector for each letter."""
    return sector, len(letters), 0, b"".join(bytes([one]) * SECTOR for one in letters)


def discard(sector: int, count: int) -> Raw:
    return sector, count, 4, b""


@pytest.fixture
def make_log(tmp_path: Path) -> MakeLog:
    def make(*entries: Raw, magic: int = MAGIC) -> WriteLog:
        head = struct.pack("<QQQI", magic, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")
        body = b"".join(
            struct.pack("<QQQQ", sector, count, flags, 0).ljust(SECTOR, b"\0") + data
            for sector, count, flags, data in entries
        )
        path = tmp_path / "writes.log"
        path.write_bytes(head + body)
        return WriteLog(path)

    return make


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"." * DISK)
    return path


def letters(path: Path, count: int = 8) -> str:
    """Return the first letter of each of the first sectors."""
    data = path.read_bytes()
    return "".join(chr(data[number * SECTOR] or ord("0")) for number in range(count))


def test_a_log_is_read_entry_by_entry(make_log: MakeLog) -> None:
    log = make_log(write(3, b"ab"), FLUSH, discard(5, 4), write(0, b"c"))
    first, flush, gone, last = log.entries
    assert (first.start, first.size, first.flush) == (3 * SECTOR, 2 * SECTOR, False)
    data = log.path.read_bytes()
    assert first.data
    assert data[first.data :][: first.size] == b"a" * SECTOR + b"b" * SECTOR
    assert (flush.size, flush.flush, flush.data) == (0, True, None)
    assert (gone.start, gone.size, gone.data) == (5 * SECTOR, 4 * SECTOR, None)
    assert last.data
    assert data[last.data :] == b"c" * SECTOR
    assert log.index(0) == 0
    assert log.index(flush.at) == 1
    assert log.index(last.at + 1) == 4
    assert first.touches(4 * SECTOR, 1)
    assert not first.touches(5 * SECTOR, SECTOR)


def test_another_file_is_no_log(make_log: MakeLog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no write log"):
        make_log(FLUSH, magic=1)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="no write log"):
        WriteLog(tmp_path / "empty")


def test_a_log_that_ends_early_is_refused(make_log: MakeLog) -> None:
    log = make_log(write(0, b"a"), write(1, b"b"))
    log.path.write_bytes(log.path.read_bytes()[: 2 * SECTOR + SECTOR])
    with pytest.raises(ValueError, match="ends within"):
        WriteLog(log.path)


def test_the_same_seed_chooses_the_same_cuts(make_log: MakeLog) -> None:
    log = make_log(*(write(number % 8, b"x") for number in range(40)))
    phases = {"stage": range(20), "write": range(20, 40), "none": range(40, 40)}
    wanted = {"stage": 7, "write": 9, "none": 5}
    decisive = [one for one in log.entries if one.start == 5 * SECTOR]
    cuts = choose(log.entries, phases, wanted, decisive.__contains__, seed=1)
    assert cuts == choose(log.entries, phases, wanted, decisive.__contains__, seed=1)
    assert cuts != choose(log.entries, phases, wanted, decisive.__contains__, seed=2)
    assert [cut.index for cut in cuts] == sorted(cut.index for cut in cuts)
    for phase, span in phases.items():
        mine = [cut for cut in cuts if cut.phase == phase]
        assert len(mine) == (wanted[phase] if span else 0)
        assert all(span.start <= cut.index <= span.stop for cut in mine)
    assert {cut.fate for cut in cuts} == {"all", "none", "some", "torn"}
    after = {log.entries.index(one) + more for one in decisive for more in range(1, 5)}
    assert sum(cut.index in after for cut in cuts) >= 7  # every second one


def test_what_was_flushed_always_survives(make_log: MakeLog, disk: Path) -> None:
    log = make_log(write(0, b"a"), FLUSH, write(1, b"b"))
    assert last_flush(log.entries, 1) == 0
    assert last_flush(log.entries, 3) == 2
    replay = Replay(log, disk)
    with replay.cut(Cut("", 3, "none", 0)) as cut:
        assert letters(cut, 3) == "a.."
    with replay.cut(Cut("", 3, "all", 0)) as cut:
        assert letters(cut, 3) == "ab."
    assert letters(disk, 3) == "a.."


def kept(log: WriteLog, fate: Fate, seeds: Iterable[int]) -> set[tuple[tuple[int, int, int], ...]]:
    index = len(log.entries)
    return {
        tuple(
            (log.entries.index(one.entry), one.offset // SECTOR, one.size // SECTOR)
            for one in survivors(Cut("", index, fate, seed), log.entries)
        )
        for seed in seeds
    }


def test_of_later_writes_any_may_survive(make_log: MakeLog) -> None:
    log = make_log(write(0, b"a"), FLUSH, write(1, b"b"), write(1, b"c"))
    b, c = (2, 0, 1), (3, 0, 1)
    assert kept(log, "some", range(50)) == {(), (b,), (c,), (b, c)}


def test_a_write_may_be_torn_at_any_sector(make_log: MakeLog) -> None:
    log = make_log(FLUSH, write(0, b"abcd"))
    found = kept(log, "torn", range(400))
    assert ((1, 0, 4),) in found
    assert () in found
    parts = [one for pieces in found for one in pieces]
    assert {start for _, start, _ in parts} == {0, 1, 2, 3}
    assert all(start + count <= 4 for _, start, count in parts)
    assert any(len(pieces) > 1 for pieces in found)


def test_the_disk_is_as_before_after_a_cut(make_log: MakeLog, disk: Path) -> None:
    log = make_log(
        write(0, b"ab"),
        FLUSH,
        write(1, b"cd"),
        write(2, b"e"),
        discard(0, 1),
        FLUSH,
        write(5, b"f"),
    )
    replay = Replay(log, disk)
    with replay.cut(Cut("", 5, "all", 0)) as cut:
        assert letters(cut, 4) == "0ce."
    with replay.cut(Cut("", 5, "none", 0)) as cut:
        assert letters(cut, 4) == "ab.."
    for seed in range(20):
        with replay.cut(Cut("", 5, "torn", seed)):
            pass
    assert letters(disk, 4) == "ab.."
    with replay.cut(Cut("", 7, "all", 0)) as cut:
        assert letters(cut, 6) == "0ce..f"
    with pytest.raises(ValueError, match="order"), replay.cut(Cut("", 3, "none", 0)):
        pass


def test_a_region_is_the_same_until_it_is_written(make_log: MakeLog, disk: Path) -> None:
    log = make_log(write(0, b"a"), FLUSH, write(8, b"b"), FLUSH, write(0, b"c"))
    low, high = Region(0, 4 * SECTOR), Region(4 * SECTOR, 8 * SECTOR)
    replay = Replay(log, disk, (low, high))
    with replay.cut(Cut("", 2, "none", 0)):
        first = replay.state(low), replay.state(high)
    with replay.cut(Cut("", 4, "none", 0)):
        assert replay.state(low) == first[0]
        assert replay.state(high) != first[1]
    with replay.cut(Cut("", 5, "all", 0)):
        assert replay.state(low) is None
        assert replay.state(high) is not None
    with replay.cut(Cut("", 5, "none", 0)):
        assert replay.state(low) == first[0]


def order(*names: str) -> list[str]:
    files = [Uki(name, 1, name.split("_")[1].split("+")[0].removesuffix(".efi")) for name in names]
    return [one.name for one in boot_order(files)]


def test_the_boot_loader_takes_the_newest_with_tries() -> None:
    assert order("n_1.efi", "n_2+3-0.efi") == ["n_2+3-0.efi", "n_1.efi"]
    assert order("n_1.efi", "n_2+0-3.efi") == ["n_1.efi", "n_2+0-3.efi"]
    assert order("n_9.efi", "n_10.efi") == ["n_10.efi", "n_9.efi"]
    assert order("n_2+1-2.efi", "n_2+2-1.efi") == ["n_2+2-1.efi", "n_2+1-2.efi"]


def test_the_boot_loader_does_not_see_everything() -> None:
    files = [
        Uki(".#sysupdaten_2.efi123", 1, "2"),
        Uki(".n_2.efi", 1, "2"),
        Uki("n_2.efi.tmp", 1, "2"),
        Uki("n_3.efi", 0, None, readable=False),
        Uki("n_1+2-1.EFI", 1, "1"),
    ]
    assert [one.name for one in boot_order(files)] == ["n_1+2-1.EFI"]
    assert (files[4].stem, files[4].left, files[4].done) == ("n_1", 2, 1)


def test_phases_begin_at_their_marks(make_log: MakeLog) -> None:
    log = make_log(write(0, b"a"), write(1, b"b"), FLUSH, write(2, b"c"))
    recording = Recording(log.path)
    recording.marks = [("stage", 0), ("write", log.entries[1].at), ("end", log.entries[3].at)]
    assert recording.phases(log) == {"stage": range(1), "write": range(1, 3)}
    recording.mark("off")
    assert recording.phases(log)["end"] == range(3, 4)


def test_the_tables_and_the_esp_decide_what_boots(make_log: MakeLog) -> None:
    mib = 1 << 11  # sectors
    log = make_log(
        write(1, b"x"), write(2 * mib, b"x"), write(9 * mib, b"x"), write(99 * mib, b"x")
    )
    told = [decides(one, 100 << 20, (8 << 20, 4 << 20)) for one in log.entries]
    assert told == [True, False, True, True]
