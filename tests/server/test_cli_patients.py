"""`toimik patients import`: the patients of a file become known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from registry.metadata_store import PatientIdentity
from server.__main__ import command_line
from server.settings import load_settings
from server.store_opening import metadata_store
from tests.builders import OTHER_PATIENT, PATIENT, PATIENT_AUTHORITY
from xds.hl7v2 import CX


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "toimik.toml"
    file.write_text(
        f'data = "{tmp_path / "data"}"\n[patients]\npolicy = "known"\n'
        f'assigning_authorities = [{{ oid = "{PATIENT_AUTHORITY}", number = "gb.nhs" }}]\n'
    )
    return file


def imported(config: Path, *lines: str) -> tuple[int, str]:
    file = config.with_name("patients.csv")
    file.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["patients", "import", str(file), "--config", str(config)]
    result = CliRunner().invoke(command_line(arguments), arguments)
    return result.exit_code, result.output


def known(config: Path, *patients: CX) -> Mapping[str, PatientIdentity]:
    async def asked() -> Mapping[str, PatientIdentity]:
        store = await metadata_store(load_settings(config))
        try:
            return await store.identities([patient.text for patient in patients])
        finally:
            await store.close()

    return asyncio.run(asked())


def test_patients_of_a_file_become_known_and_are_merged(config: Path) -> None:
    lines = ("patient_id,merged_into", f"{OTHER_PATIENT.id_number},{PATIENT.id_number}", f"{PATIENT.text},")
    for _ in range(2):
        exit_code, output = imported(config, *lines)
        assert exit_code == 0, output
        assert "2 lines taken, 0 refused." in output

    assert known(config, PATIENT, OTHER_PATIENT) == {
        PATIENT.text: PatientIdentity(merged_from=(OTHER_PATIENT.text,)),
        OTHER_PATIENT.text: PatientIdentity(merged_into=PATIENT.text),
    }


def test_lines_that_can_not_be_are_told_and_the_others_taken(config: Path) -> None:
    exit_code, output = imported(
        config, "patient_id,authority", f"{PATIENT.id_number},", "1,", "", "2,1.2.3", f"{OTHER_PATIENT.id_number},"
    )

    assert exit_code == 1
    assert "line 3: " in output
    assert "line 5: " in output
    assert "2 lines taken, 2 refused." in output
    assert len(known(config, PATIENT, OTHER_PATIENT)) == 2


def test_a_file_without_the_column_is_refused(config: Path) -> None:
    exit_code, output = imported(config, "name", "Jane")

    assert exit_code == 2
    assert "patient_id" in output
