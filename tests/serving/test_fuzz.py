"""Whatever the documentation allows, and much that it does not, is answered as it says, and only to those who have a key."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from conftest import make_settings
from recsys.store.snapshots import open_store
from recsys.validation.check_input import CheckInput
from serving_shop import Server, publish_copy, serving

pytestmark = pytest.mark.slow
KEY = "a key for fuzzing"
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory, inputs: CheckInput) -> Iterator[Any]:
    """The documentation of a service with a key, over HTTP."""
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    publish_copy(store, inputs, "first")
    server = Server(store, serving(make_settings(), max_lag_seconds=60.0), KEY)
    yield schemathesis.openapi.from_url(f"{server.url}openapi.json")
    server.stop()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_one_that_is_documented(documented: Any, mode: GenerationMode) -> None:
    asked = 0
    for operation in documented.get_all_operations():

        @given(case=operation.ok().as_strategy(generation_mode=mode))
        @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            answer = case.call(headers={"X-API-Key": KEY})
            case.validate_response(answer, checks=CHECKS)

        with suppress(Unsatisfiable):  # a route that takes nothing cannot be asked wrongly
            ask()
    assert asked > 300


def test_without_a_key_nothing_but_health_is_told(documented: Any) -> None:
    for operation in documented.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            case.headers.pop("X-API-Key", None)
            assert case.call().status_code == (200 if case.path in ("/healthz", "/readyz") else 401)

        ask()
