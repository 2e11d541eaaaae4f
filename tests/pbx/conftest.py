"""Two rehearsals that the tests on a real Asterisk share: one with the service, one with the scripts only."""
from __future__ import annotations

import pytest

from movidesk_rehearsal.asterisk import find_asterisk
from movidesk_rehearsal.rehearsal import Rehearsal
from office import DIALPLAN, SETTINGS, VARIABLES, Office, shorten_prompts


def pytest_collection_modifyitems(items):
    for item in items:
        if "/tests/pbx/" in str(item.fspath):
            item.add_marker(pytest.mark.pbx)


@pytest.fixture(scope="session")
def tree(request):
    return find_asterisk(request.config.getoption("--asterisk"))


def rehearse(tree, folder, **options):
    with Rehearsal(tree, folder, settings=SETTINGS, variables=VARIABLES, more=DIALPLAN, **options) as rehearsal:
        shorten_prompts(rehearsal)
        yield rehearsal


@pytest.fixture(scope="session")
def with_service(tree, tmp_path_factory):
    yield from rehearse(tree, tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def with_scripts(tree, tmp_path_factory):
    # Where Asterisk's systemname already is the PBX's name, call ids begin with it once.
    yield from rehearse(tree, tmp_path_factory.mktemp("scripts"), service=False, systemname="pbx1")


@pytest.fixture
def service_office(with_service):
    with Office(with_service) as office:
        yield office


@pytest.fixture
def scripts_office(with_scripts):
    with Office(with_scripts) as office:
        yield office


@pytest.fixture(params=["service", "scripts"])
def office(request):
    """The same test with the service and without it."""
    return request.getfixturevalue(request.param + "_office")
