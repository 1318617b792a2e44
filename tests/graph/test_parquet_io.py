"""The IO manager: immutable files, a moving pointer, and fan-in over 0, 1 and n partitions."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import AllPartitionMapping, AssetIn, DagsterInstance, DynamicPartitionsDefinition, asset, materialize

from milton_assets.vocabulary.columns import description_of
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.parquet_io import ParquetIOManager

UP = DynamicPartitionsDefinition(name="up")
DOWN = DynamicPartitionsDefinition(name="down")


@asset(partitions_def=UP, io_manager_key="evidence")
def measured(context) -> pa.Table:
    return pa.table({"key": [context.partition_key]})


@asset(
    partitions_def=DOWN,
    ins={"measured": AssetIn(partition_mapping=AllPartitionMapping())},
    io_manager_key="evidence",
)
def decided(measured: dict[str, EvidenceFile]) -> pa.Table:
    return pa.table({"seen": [sorted(f.read()["key"][0].as_py() for f in measured.values())]})


@asset(partitions_def=UP, io_manager_key="evidence")
def follows(measured: EvidenceFile) -> pa.Table:
    return measured.read()


@pytest.fixture
def manager(tmp_path):
    return ParquetIOManager(root=str(tmp_path / "evidence"))


def run(assets, key, manager, instance):
    return materialize(assets, partition_key=key, resources={"evidence": manager}, instance=instance)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_fan_in_is_always_a_dict(count, manager):
    keys = [f"v{i}" for i in range(count)]
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", keys)
        instance.add_dynamic_partitions("down", ["run"])
        for key in keys:
            assert run([measured], key, manager, instance).success
        assert run([decided, measured.to_source_asset()], "run", manager, instance).success
    file = manager.store.latest("decided", "run")
    assert file is not None
    assert file.read()["seen"][0].as_py() == keys


def test_a_fan_in_leaves_out_partitions_without_evidence(manager):
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["measured", "never_measured"])
        instance.add_dynamic_partitions("down", ["run"])
        run([measured], "measured", manager, instance)
        run([decided, measured.to_source_asset()], "run", manager, instance)
    file = manager.store.latest("decided", "run")
    assert file is not None
    assert file.read()["seen"][0].as_py() == ["measured"]


def test_a_second_materialisation_keeps_the_first_file(manager):
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["v1"])
        run([measured], "v1", manager, instance)
        first = manager.store.latest("measured", "v1")
        run([measured], "v1", manager, instance)
        second = manager.store.latest("measured", "v1")
    assert first is not None
    assert second is not None
    assert first.uri != second.uri
    assert first.read() == second.read()


def test_the_event_carries_the_digest_of_the_file(manager):
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["v1"])
        result = run([measured], "v1", manager, instance)
    metadata = result.asset_materializations_for_node("measured")[0].metadata
    assert manager.store.digest(metadata["uri"].value) == metadata["sha256"].value


def test_the_event_carries_row_count_and_table_schema(manager):
    @asset(partitions_def=UP, io_manager_key="evidence")
    def counted() -> pa.Table:
        return pa.table({"key": ["a", "b"], "n": [1, None]})

    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["v1"])
        result = run([counted], "v1", manager, instance)
    metadata = result.asset_materializations_for_node("counted")[0].metadata
    assert metadata["dagster/row_count"].value == 2
    columns = metadata["columns"].schema.columns
    assert [(column.name, column.type) for column in columns] == [("key", "string"), ("n", "int64")]


def test_columns_say_what_they_hold_in_the_ui_and_in_the_file(manager):
    @asset(partitions_def=UP, io_manager_key="evidence")
    def told() -> pa.Table:
        samples = pd.DataFrame({"question": ["a lamp?"]})
        metric = Metric.measured("speed", "tokens/s", 3.0, n=1)
        return TierResult("tier", (metric,), samples).to_table("v1", None)

    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["v1"])
        result = run([told], "v1", manager, instance)
    metadata = result.asset_materializations_for_node("told")[0].metadata
    shown = {column.name: column.description for column in metadata["columns"].schema.columns}
    assert (shown["unit"], shown["question"]) == ("its unit", None)
    stored = pq.read_schema(metadata["path"].value)
    assert {field.name: description_of(field) for field in stored} == shown


def test_a_missing_upstream_partition_says_what_to_do(manager):
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["v1"])
        with pytest.raises(BadInput, match="materialise measured for v1 first"):
            run([follows, measured.to_source_asset()], "v1", manager, instance)


def test_an_unpartitioned_run_is_refused(manager):
    @asset(io_manager_key="evidence")
    def unpartitioned() -> pa.Table:
        return pa.table({"a": [1]})

    with pytest.raises(BadInput, match="without a partition"):
        materialize([unpartitioned], resources={"evidence": manager})


def test_what_is_no_table_is_refused(manager):
    @asset(io_manager_key="evidence", partitions_def=UP)
    def wrong():
        return 3

    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("up", ["v1"])
        with pytest.raises(BadInput, match="returned int"):
            run([wrong], "v1", manager, instance)


class TestStore:
    @pytest.fixture
    def store(self, tmp_path):
        return EvidenceStore(tmp_path / "evidence")

    def test_a_changed_file_is_refused(self, store):
        file = store.write("a", "p", pa.table({"x": [1]}), "run")
        path = store.root / file.uri
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(EvidenceMismatch, match="was changed"):
            file.read()

    def test_a_missing_file_is_refused(self, store):
        file = store.write("a", "p", pa.table({"x": [1]}), "run")
        (store.root / file.uri).unlink()
        with pytest.raises(EvidenceMismatch, match="is missing"):
            file.read()
        assert store.digest(file.uri) is None

    def test_a_damaged_pointer_is_refused(self, store):
        store.write("a", "p", pa.table({"x": [1]}), "run")
        (store.root / "a/p/latest.json").write_text("{}")
        with pytest.raises(EvidenceMismatch, match=r"pointer .* is damaged"):
            store.latest("a", "p")

    @pytest.mark.parametrize("uri", ["../x", "/etc/passwd", "a/../../x", ""])
    def test_a_uri_never_leaves_the_store(self, store, uri):
        with pytest.raises(BadInput, match="leaves the store"):
            store.digest(uri)

    @pytest.mark.parametrize("partition", ["..", "a/b", "", "-x"])
    def test_a_partition_that_is_no_slug_is_refused(self, store, partition):
        with pytest.raises(BadInput, match="is not a slug"):
            store.write("a", partition, pa.table({"x": [1]}), "run")

    def test_evidence_can_lie_behind_an_fsspec_url(self):
        store = EvidenceStore("memory://milton-test/evidence")
        file = store.write("a", "p", pa.table({"x": [1]}), "run")
        latest = store.latest("a", "p")
        assert latest is not None
        assert latest == file
        assert latest.read().to_pydict() == {"x": [1]}

    def test_a_partition_without_evidence_has_no_latest(self, store):
        assert store.latest("a", "p") is None
