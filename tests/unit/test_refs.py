"""What the system calls a job, and where it lies."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from maskmill.shared.jobs import keys
from maskmill.shared.jobs.keys import DEFAULT_TENANT, id_of, job_ref, tenant_of
from maskmill.shared.jobs.records import Job, JobHead

ID = "01m897hvx0p2jwqkpqrrbdm7"


def head(**more: object) -> JobHead:
    return JobHead.model_validate({"id": ID, "created_at": 0, "shard_size": 1, **more})


@pytest.mark.parametrize(("tenant", "ref"), [(DEFAULT_TENANT, ID), ("acme", f"acme.{ID}"), ("9-a", f"9-a.{ID}")])
def test_a_ref_tells_tenant_and_id(tenant: str, ref: str) -> None:
    assert job_ref(tenant, ID) == head(tenant=tenant).ref == ref
    assert (tenant_of(ref), id_of(ref)) == (tenant, ID)


def test_a_job_stored_before_there_were_tenants_is_the_default_ones() -> None:
    job = Job.model_validate_json(f'{{"version":1,"id":"{ID}","created_at":0,"shard_size":1,"sources":[]}}')
    assert (job.tenant, job.ref, job.head.ref) == (DEFAULT_TENANT, ID, ID)


def test_a_jobs_keys_lie_with_its_tenant_and_the_default_ones_where_they_ever_did() -> None:
    assert keys.artifact(ID, "a_res.json") == f"jobs/{ID}/artifacts/a_res.json"
    assert keys.open_marker(ID) == f"open/{ID}"
    other = f"acme.{ID}"
    assert keys.artifact(other, "a_res.json") == f"tenants/acme/jobs/{ID}/artifacts/a_res.json"
    assert keys.open_marker(other) == f"open/{other}"
    assert keys.receiving(other, "f") == f"receiving/{other}/f"


# What no ref is may stand in storage all the same, as the name of a marker.
@pytest.mark.parametrize("stray", [f"default.{ID}", f".{ID}", "acme.", "a.b.c", f"Acme.{ID}", f"{'a' * 41}.{ID}"])
def test_what_is_no_ref_is_no_other_tenants_job_and_no_job_of_its_own(stray: str) -> None:
    assert (tenant_of(stray), id_of(stray)) == (DEFAULT_TENANT, stray)
    assert keys.job(stray) == f"jobs/{stray}/job.json"


@pytest.mark.parametrize("tenant", ["", "-a", "Acme", "a.b", "a/b", "a_b", "a\n", "a" * 41])
def test_a_tenants_name_is_safe_wherever_it_stands(tenant: str) -> None:
    with pytest.raises(ValidationError):
        head(tenant=tenant)
