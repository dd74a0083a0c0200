"""Every mistake in a profile or site is one line with file, path, fact and hint."""

from __future__ import annotations

import pytest

from tests.unit.resolve_project import FILES, Files, files

__all__ = ["files"]

CPU = "config/profiles/cpu.yaml"


def test_unknown_key_names_the_nearest(files: Files) -> None:
    files.profile("extends: base\ndisk: {rooot: 1GiB}\n")
    assert files.problems() == [
        f"{CPU}: disk.rooot: unknown key "
        "(hint: did you mean 'root'? known keys: esp, root, cidata, var_min, encrypt_var)"
    ]


def test_misspelt_extends_is_hinted(files: Files) -> None:
    files.profile(FILES[CPU].replace("extends", "extend"))
    assert "extend: unknown key (hint: did you mean 'extends'?" in "\n".join(files.problems())


def test_unknown_key_that_holds_a_map_is_blamed_on_its_file(files: Files) -> None:
    files.profile(FILES["config/profiles/base.yaml"] + "board:\n  slots: 8\n", "base")
    (problem,) = files.problems()
    assert problem.startswith("config/profiles/base.yaml: board: unknown key (hint: known keys: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node: {watchdog_s: '60'}", 'node.watchdog_s: "60" must be a whole number'),
        ("node: {watchdog_s: 5}", "node.watchdog_s: 5 must be greater than or equal to 10"),
        ("abstract: 'yes'", 'abstract: "yes" must be true or false'),
        ("description: 7", "description: 7 must be text (hint: put it in quotes)"),
        ("description: 2024-01-01", 'description: "2024-01-01" must be text'),
        ("kernel:", "kernel: null must be a map"),
        ("overlays: base", 'overlays: "base" must be a list'),
        ("packages: {roles: {a: b}}", 'packages.roles: {"a": "b"} must be a list'),
        ("packages: {include: [vim, Vi m]}", 'packages.include[1]: "Vi m" must match pattern'),
        ("kernel: {cmdline: ['a b']}", 'kernel.cmdline[0]: "a b" must match pattern'),
        ("node: {timezone: ../x}", 'node.timezone: "../x" must match pattern'),
    ],
)
def test_wrong_values(files: Files, text: str, expected: str) -> None:
    files.profile(f"extends: base\n{text}\n")
    (problem,) = files.problems()
    assert problem.startswith(f"{CPU}: {expected}")


@pytest.mark.parametrize(
    "size",
    ["1000", "1.5MiB", "512MB", "0", "-512MiB", "-1048576", "512MiB x", "true", "[1]", ".inf",
     "9" * 400 + "GiB", "many", "'\\ud800'", '"\\ud800"'],
)  # fmt: skip
def test_size_not_a_whole_number_of_mib(files: Files, size: str) -> None:
    files.profile(f"extends: base\ndisk: {{root: {size}}}\n")
    (problem,) = files.problems()
    assert problem.startswith(f"{CPU}: disk.root: ")
    assert " must " in problem
    assert "each of the two root slots" in problem


def test_a_wrong_value_is_blamed_on_the_file_that_set_it(files: Files) -> None:
    files.profile(FILES["config/profiles/base.yaml"].replace("16MiB", "17kB"), "base")
    (problem,) = files.problems()
    assert problem.startswith('config/profiles/base.yaml: disk.cidata: "17kB" must be')


def test_missing_keys_are_blamed_on_the_profile_asked_for(files: Files) -> None:
    files.profile("abstract: true\ndescription: nothing\n", "base")
    problems = files.problems()
    assert f"{CPU}: overlays: is required but not set (hint: folders of overlays/" in problems[2]
    assert [line.split(": ")[:2] for line in problems] == [
        [CPU, place]
        for place in (
            "kernel", "packages.roles", "overlays", "disk.esp", "disk.cidata", "disk.var_min",
            "node",
        )
    ]  # fmt: skip


def test_all_errors_of_profile_and_site_at_once(files: Files) -> None:
    files.profile(
        "extends: base\nfoo: 1\ndisk: {root: 5, esp: x}\n"
        "packages: {roles: [base, shh]}\noverlays: [bas]\n"
    )
    files.write("config/sites/debian.yaml", "description: d\narchives: []\nbar: 1\n")
    places = [":".join(line.split(":")[:2]) for line in files.problems()]
    site = "config/sites/debian.yaml"
    assert sorted(places) == sorted([
        f"{CPU}: foo", f"{CPU}: disk.root", f"{CPU}: disk.esp", f"{CPU}: packages.roles[1]",
        f"{CPU}: overlays[0]", f"{site}: archives", f"{site}: bar",
    ])  # fmt: skip


def test_missing_profile_and_site_name_the_nearest(files: Files) -> None:
    assert files.problems("cpuu", "debain") == [
        "config/profiles/cpuu.yaml: not found "
        "(hint: did you mean 'cpu'? files in config/profiles: base, cpu)",
        "config/sites/debain.yaml: not found "
        "(hint: did you mean 'debian'? files in config/sites: debian)",
    ]


@pytest.mark.parametrize("name", ["../sites/debian", "/etc/passwd", "", "CPU", "a\nb", "x" * 25])
def test_a_name_is_never_a_path(files: Files, name: str) -> None:
    profile, site = files.problems(name, name)
    assert "cannot name a profile (hint: " in profile
    assert "cannot name a site (hint: " in site


def test_cyclic_extends_shows_the_circle(files: Files) -> None:
    files.profile("extends: b\n", "a")
    files.profile("extends: c\n", "b")
    files.profile("extends: b\n", "c")
    assert files.problems("a") == [
        "config/profiles/c.yaml: extends: goes in a circle: b → c → b (hint: remove one `extends`)"
    ]


def test_extending_oneself(files: Files) -> None:
    files.profile("extends: a\n", "a")
    assert "goes in a circle: a → a" in files.problems("a")[0]


def test_missing_parent_and_the_other_errors_of_the_file(files: Files) -> None:
    files.profile("extends: bse\nfoo: 1\n")
    assert files.problems() == [
        f"{CPU}: extends: there is no profile 'bse' (hint: did you mean 'base'? profiles: base)",
        *[line for line in files.problems() if "foo: unknown key" in line],
    ]


@pytest.mark.parametrize("parent", ["5", "[base]", "", "../base", "base.yaml"])
def test_extends_must_be_one_name(files: Files, parent: str) -> None:
    files.profile(f"extends: {parent}\n")
    (problem,) = files.problems()
    assert problem.startswith(f"{CPU}: extends: ")
    assert "is not the name of a profile" in problem


def test_a_broken_parent_is_named_itself(files: Files) -> None:
    files.profile("a: [", "base")
    (problem,) = files.problems()
    assert problem.startswith("config/profiles/base.yaml: line 1: is not YAML: ")


def test_an_abstract_profile_cannot_be_built(files: Files) -> None:
    assert files.problems("base") == [
        "config/profiles/base.yaml: abstract: this profile is only to be extended "
        "(hint: profiles that can be built: cpu)"
    ]


def test_an_empty_list_that_needs_an_entry(files: Files) -> None:
    files.write("config/sites/debian.yaml", "description: d\narchives: []\n")
    (problem,) = files.problems()
    assert problem.startswith("config/sites/debian.yaml: archives: [] has too few entries (hint: ")


def test_unknown_role_and_overlay(files: Files) -> None:
    files.profile("extends: base\npackages: {roles: [bas]}\noverlays: [base, baze]\n")
    assert files.problems() == [
        f"{CPU}: packages.roles[0]: there is no role 'bas' in image/packages/ "
        "(hint: did you mean 'base'? roles: base, ssh)",
        f"{CPU}: overlays[1]: there is no folder 'baze' in overlays/ "
        "(hint: did you mean 'base'? overlays: base)",
    ]


def test_every_bad_entry_of_a_package_list(files: Files) -> None:
    files.write("image/packages/base.yaml", "- ok\n- vim=9\n- 5\n")
    files.write("image/tools.yaml", "a: b\n")
    files.write("image/initrd.yaml", "packages: [bash]\nmodule: [x]\n")
    first, second, tools, missing, unknown = files.problems()
    assert first.startswith('image/packages/base.yaml: [1]: "vim=9" must match pattern')
    assert second.startswith("image/packages/base.yaml: [2]: 5 must be text (hint: one Debian ")
    assert tools.startswith("image/tools.yaml: is a map, must be a list (hint: ")
    assert missing.startswith("image/initrd.yaml: modules: is required but not set (hint: ")
    assert "did you mean 'modules'?" in unknown


def test_inside_a_list_of_a_site(files: Files) -> None:
    files.write(
        "config/sites/debian.yaml",
        "description: d\narchives:\n- {uri: ftp://x, suites: [a], keyrin: k}\n",
    )
    uri, keyring, unknown = files.problems()
    assert uri.startswith('config/sites/debian.yaml: archives[0].uri: "ftp://x" must match pattern')
    assert "archives[0].keyring: is required but not set" in keyring
    assert "archives[0].keyrin: unknown key (hint: did you mean 'keyring'?" in unknown


@pytest.mark.parametrize(
    ("keys", "fact"),
    [
        ("suites: [/]", "needs components: []"),
        ("suites: [/, bookworm]", "can only be / and the only one"),
        ("suites: [bookworm], components: []", "has no components"),
    ],
)
def test_a_flat_archive_is_flat_in_all(files: Files, keys: str, fact: str) -> None:
    text = f"description: x\narchives: [{{uri: 'https://x.example', keyring: k, {keys}}}]\n"
    files.write("config/sites/debian.yaml", text)
    (line,) = files.problems()
    assert line.startswith("config/sites/debian.yaml: archives[0]:")
    assert fact in line


@pytest.mark.parametrize("keys", ["", ", release: n=x, version: 1.*"])
def test_a_pin_has_one_condition(files: Files, keys: str) -> None:
    site = FILES["config/sites/debian.yaml"] + f"pins: [{{packages: a{keys}}}]\n"
    files.write("config/sites/debian.yaml", site)
    (line,) = files.problems()
    assert "pins[0]" in line
    assert "either a release or a version" in line
