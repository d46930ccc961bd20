from __future__ import annotations

import json
from pathlib import Path

from auricle.curation import Pipeline, Shard
from auricle.curation.items import ID
from auricle.curation.plan import READ, planned
from auricle.curation.readers import Manifest
from auricle.curation.running.reading import ShardRead, read_shards
from auricle.curation.running.store import Store


def shards_of(folder: Path, names: list[str], size: int = 8) -> list[ShardRead]:
    path = folder / "rows.jsonl"
    rows = [json.dumps({"audio_filepath": f"/{name}.wav", "duration": 2}) for name in names]
    path.write_text("\n".join(rows) + "\n")
    plan = planned(Pipeline("p", [Manifest(str(path))], [], shard=Shard(size)))
    return read_shards(plan, folder / "out")


def test_shards_hold_every_row_once_in_order(tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(100)]
    shards = shards_of(tmp_path, names)
    assert all(1 <= shard.rows <= 8 for shard in shards)
    assert sum(shard.rows for shard in shards) == 100 and len(shards) < 30
    assert sum(shard.milliseconds for shard in shards) == 200_000
    store = Store(tmp_path / "out")
    rows = [json.loads(line) for shard in shards for line in store.lines(READ, shard.key)]
    assert [Path(row["audio_filepath"]).stem for row in rows] == names
    assert len({row[ID] for row in rows}) == 100


def test_a_row_more_in_the_middle_changes_few_shards(tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(200)]
    before = {shard.key for shard in shards_of(tmp_path, names)}
    after = [shard.key for shard in shards_of(tmp_path, [*names[:90], "new", *names[90:]])]
    assert len([key for key in after if key not in before]) <= 6
    assert shards_of(tmp_path, names) != []


def test_ids_stand_for_content_and_tell_copies_apart(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, ["a", "b", "a", "a"])
    store = Store(tmp_path / "out")
    ids = [json.loads(line)[ID] for s in shards for line in store.lines(READ, s.key)]
    assert len(set(ids)) == 4
    again = shards_of(tmp_path, ["b", "a"])
    rows = [json.loads(line)[ID] for s in again for line in store.lines(READ, s.key)]
    assert rows == [ids[1], ids[0]]


def test_broken_rows_are_kept_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"audio_filepath": "a.wav"}\n{"audio_filepath": \n[1]\n')
    plan = planned(Pipeline("p", [Manifest(str(path))], []))
    (shard,) = read_shards(plan, tmp_path / "out")
    store = Store(tmp_path / "out")
    assert shard.rows == 3 and len(list(store.lines(READ, shard.key))) == 1
    dropped = list(store.dropped(READ, shard.key))
    assert [row["as"] for row in dropped] == ["quarantined"] * 2
    assert dropped[0]["item"]["line"] == 2 and len({row["item"][ID] for row in dropped}) == 2
