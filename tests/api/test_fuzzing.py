"""schemathesis makes requests from the served OpenAPI document, good and bad, and judges every answer by it.

FEDERATION_FUZZ_EXAMPLES sets how many it makes up for each operation beside those that cover the schemas.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from api.conftest import Installation, make

EXAMPLES = os.environ.get("FEDERATION_FUZZ_EXAMPLES", "2")
JUDGEMENT = """
[checks.positive_data_acceptance]
# 422 is what the manager refuses though the document allows it, 409 what the estate's state does not.
expected-statuses = ["2xx", "401", "403", "404", "409", "422"]
"""
LEFT_OUT = (
    # A drained worker, or a removed machine, would end the fuzzing of what it does; test_use_cases and test_access ask for both.
    *("--exclude-operation-id", "drain_worker", "--exclude-operation-id", "destroy"),
    # Between two epochs everything else is answered 503, as it should be; test_upkeep asks for it.
    *("--exclude-operation-id", "repartition"),
    # schemathesis reads an answer to its end, and the stream of a queued operation has none within its patience.
    *("--exclude-operation-id", "follow_operation"),
)


@pytest.fixture
def fuzzed(tmp_path):
    made = Installation(tmp_path)
    yield made
    made.end()


@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("aim", ["anything", "what is there"])
def test_no_request_gets_an_answer_that_the_document_does_not_promise(fuzzed, aim):
    # Good for the clusters that have a worker: a query of another is answered 503, as it should be.
    token, _ = fuzzed.token("admin", ["lab", "prod"])
    config = fuzzed.folder / "schemathesis.toml"
    config.write_text(JUDGEMENT + (names(fuzzed.client(token=token)) if aim == "what is there" else ""))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{fuzzed.address}/openapi.json", "--header", f"Authorization: Bearer {token}"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES),
            *("--request-timeout", "30", "--no-color", "--seed", "1", "--continue-on-failure", *LEFT_OUT),
        ],
        capture_output=True,
        text=True,
        timeout=1000,
        cwd=fuzzed.folder,
        check=False,
    )
    assert done.returncode == 0, done.stdout[done.stdout.find("= FAILURES =") :][:10000] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 1000
    assert "a defect of the manager" not in fuzzed.text()


def names(client):
    """Parameters that name what is there, so that the use cases are reached and not only their refusals."""
    instance = make(client, "fuzzed")
    operation = client.get("/v1/operations").json()["items"][0]["id"]
    node = client.get("/v1/nodes", params={"cluster": "lab"}).json()[0]["name"]
    return f"""
[parameters]
"path.instance" = "{instance}"
"path.operation" = "{operation}"
"path.cluster" = "lab"
"path.node" = "{node}"
"path.worker" = "lab-1"
"path.token" = "00000000000000000000000000000000"
"""
