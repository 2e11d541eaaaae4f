"""requirements/: what `make install` and `make test` install is pinned, with hashes, and is what setup.cfg asks for."""
from __future__ import annotations

import configparser
import os
import pathlib
import re
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import movidesk

ROOT = pathlib.Path(__file__).parent.parent
PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]


def pins(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each pin of requirements/NAME.txt with its hashes."""
    text = (ROOT / "requirements" / (name + ".txt")).read_text()
    lines = [line for line in text.replace("\\\n", "").splitlines() if line and not line.lstrip().startswith("#")]
    return [(Requirement(pin), hashes) for pin, *hashes in (line.split("--hash=") for line in lines)]


def pinned(name: str, python: str) -> dict[str, str]:
    """Package -> version, as a Python of that version on Linux installs requirements/NAME.txt."""
    here = {"python_version": python, "python_full_version": python + ".0", "sys_platform": "linux"}
    found = [pin for pin, _ in pins(name) if pin.marker is None or pin.marker.evaluate(here)]
    versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in found}
    assert len(versions) == len(found), "a package is pinned twice"
    return versions


def wanted(*extras: str) -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


@pytest.mark.parametrize("name", ["build", "install", "test"])
def test_everything_is_pinned_with_hashes(name):
    assert pins(name)
    for pin, hashes in pins(name):
        assert [spec.operator for spec in pin.specifier] == ["=="], pin
        assert hashes and all(text.strip().startswith("sha256:") for text in hashes), pin


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name, extras", [("install", ["cli", "numbers", "web", "sim"]),
                                          ("test", ["cli", "numbers", "web", "sim", "test", "lint"])])
def test_what_setup_cfg_asks_for_is_pinned(name, extras, python):
    """Else `make lock` was forgotten."""
    versions = pinned(name, python)
    for requirement in wanted(*extras):
        version = versions.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{requirement}, pinned: {version}"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_tested_is_what_is_installed(python):
    assert pinned("install", python).items() <= pinned("test", python).items()


@pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml", "Makefile", ".ci/run", ".pre-commit-config.yaml",
                                  "debian/rules", "debian/control",
                                  *(f"requirements/{name}.txt" for name in ("build", "install", "test"))])
def test_what_installs_names_no_host(name):
    """Where packages come from is for the machine to say: pip's own configuration."""
    text = (ROOT / name).read_text()
    assert not re.search(r"://|index-url|extra-index|find-links|trusted-host|pypi", text.replace("--no-emit-index-url", ""))


@pytest.mark.parametrize("user, said", [("root", ""), ("nobody-of-that-name", "There is no user nobody-of-that-name: ")])
def test_an_unknown_user_of_asterisk_is_named(user, said):
    if os.geteuid() != 0:
        pytest.skip("only root gives files to others")
    done = subprocess.run(["make", "-s", "check-user", "ASTUSER=" + user], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "") and done.stderr.startswith(said) and bool(done.stderr) == bool(said)


def metadata() -> configparser.SectionProxy:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["metadata"]


def test_the_metadata_is_complete_but_for_the_licence():
    """The owner chooses the licence: README.md says so as long as there is none."""
    found = metadata()
    for key in ("name", "version", "description", "long_description", "author", "maintainer", "keywords", "platforms",
                "classifiers"):
        assert found.get(key), key
    has_licence = "license" in found or "License ::" in found["classifiers"] or any(ROOT.glob("LICEN[CS]E*"))
    assert has_licence != ("None yet. The owner" in (ROOT / "README.md").read_text())


def test_the_metadata_names_the_pythons_that_are_supported():
    found = metadata()["classifiers"]
    assert re.findall(r"^Programming Language :: Python :: (3\.\d+)$", found, re.MULTILINE) == PYTHONS
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options"]["python_requires"] == f">={PYTHONS[0]}"


def test_the_debian_package_has_the_version_of_the_program():
    first = (ROOT / "debian" / "changelog").read_text().splitlines()[0]
    assert first == f"movidesk-agi ({movidesk.__version__}) unstable; urgency=medium"


def test_the_source_archive_has_every_folder():
    """As MANIFEST.in says: make install, make deb and make test work in it."""
    grafted = set(re.findall(r"^graft (\S+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE))
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in ("build", "dist")}
    assert grafted == there | {".ci"}


@pytest.mark.parametrize("name, kinds", [("movidesk", {".html", ".css", ".js", ".svg", ".lua", ".mo"}),
                                         ("movidesk_sim", {".html", ".css", ".js", ".svg", ".mo"})])
def test_each_file_beside_the_modules_is_part_of_the_package(name, kinds):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folder = ROOT / "lib" / name
    there = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path for pattern in setup["options.package_data"][name].split() for path in folder.glob(pattern)} == there
    assert {path.suffix for path in there} >= kinds


def test_the_debian_package_has_what_the_documents_name():
    """What is not for the PBX itself lies among its examples."""
    examples = (ROOT / "debian" / "movidesk-agi.examples").read_text().split()
    assert "etc/movidesk-mixin" in examples and all((ROOT / path).exists() for path in examples)


def test_uninstall_names_what_still_runs(tmp_path):
    """Without systemd nobody ends the service; its files are gone under it."""
    command = tmp_path / "opt" / "venv" / "bin" / "movidesk"
    command.parent.mkdir(parents=True)
    command.write_text("read -r line\n")
    with subprocess.Popen(["/bin/sh", command, "serve"], stdin=subprocess.PIPE) as service:
        places = {"PREFIX": "opt", "ASTETCDIR": "etc", "ASTAGIDIR": "agi-bin", "ASTDATADIR": "data", "STATEDIR": "state"}
        settings = [f"{name}={tmp_path / path}" for name, path in places.items()]
        said = subprocess.run(["make", "-s", "uninstall", "SYSTEMD=no", *settings], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                              check=True, timeout=60).stdout
        assert f"Still running, of the removed version: /bin/sh {command} serve : kill {service.pid}\n" in said
    assert not command.exists()
