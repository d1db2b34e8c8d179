"""What is held against the folder of long results."""

import hashlib
from pathlib import Path

import pytest

from tests.soak import payloads

DATA = b'{"token":"t"}'
OUTPUT = {
    "run_id": "r",
    "step_key": "s0",
    "reference": "r/s0/1.json",
    "size_bytes": len(DATA),
    "sha256": hashlib.sha256(DATA).hexdigest(),
}
OWNER = {"run_id": "r", "owner_id": "r"}


@pytest.mark.parametrize(
    ("files", "output", "owner", "said"),
    [
        ({"r/s0/1.json": DATA}, OUTPUT, OWNER, []),
        ({}, OUTPUT, OWNER, ["0 bytes are there of 13"]),
        ({"r/s0/1.json": DATA.replace(b"t", b"x")}, OUTPUT, OWNER, ["13 bytes are there of 13"]),
        ({"r/s0/1.json": DATA}, OUTPUT, {**OWNER, "run_id": "other"}, ["nothing says that it has payloads of run r"]),
        ({"r/s0/1.json": DATA, "q/s0/1.json": DATA}, OUTPUT, OWNER, ["1.json is there, and no run has it"]),
        ({"r/s0/2.json": DATA}, {"run_id": "r", "step_key": "s0", "output": 1}, OWNER, []),
    ],
    ids=["right", "lost", "changed", "of nobody", "a stray", "of an attempt that was lost"],
)
def test_what_is_recorded_is_there_and_what_is_there_has_a_run(
    tmp_path: Path, files: dict[str, bytes], output: dict[str, object], owner: dict[str, object], said: list[str]
) -> None:
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    final = {"flow_outputs": (output,), "flow_payloads": (owner,)}
    assert [one.sentence for one in payloads.astray(final, tmp_path)] == said
