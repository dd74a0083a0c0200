"""What a good project resolves to: merging, packages, and where each value came from."""

from __future__ import annotations

from pathlib import Path

from builder.core.paths import Project
from builder.model.spec import Spec
from builder.resolve import list_profiles
from builder.resolve.layers import Layers
from tests.unit.resolve_project import FILES, Files, files

__all__ = ["files"]

BASE = "config/profiles/base.yaml"
CPU = "config/profiles/cpu.yaml"
SITE = "config/sites/debian.yaml"


def test_maps_merge_and_the_child_wins(files: Files) -> None:
    disk = files.resolve().profile.disk
    assert (disk.esp, disk.root) == (512 << 20, 1 << 30)


def test_lists_are_replaced_not_joined(files: Files) -> None:
    files.profile("extends: base\nkernel: {cmdline: [loud]}\n")
    kernel = files.resolve().profile.kernel
    assert kernel.cmdline == ("loud",)
    assert kernel.package == "linux-image-amd64"


def test_origins_name_the_file_that_set_each_value(files: Files) -> None:
    origins = files.resolve().origins
    assert origins["profile.disk.root"] == CPU
    assert origins["profile.disk.esp"] == BASE
    assert origins["profile.kernel.cmdline"] == BASE
    assert origins["profile.packages.include"] == CPU
    assert origins["profile.node.hostname"] == "default"
    assert origins["profile.abstract"] == "default"
    assert origins["site.archives"] == SITE
    assert origins["site.proxy.http"] == "default"
    assert origins["site.description"] == SITE


def test_every_leaf_has_an_origin_and_maps_have_none(files: Files) -> None:
    files.profile("extends: base\nkernel: {}\n")
    origins = files.resolve().origins
    assert "profile.kernel" not in origins
    assert origins["profile.kernel.package"] == BASE
    assert len([key for key in origins if key.startswith("profile.disk.")]) == 5


def test_packages_are_roles_include_and_kernel_once_and_sorted(files: Files) -> None:
    files.profile("extends: base\npackages: {roles: [ssh, base], include: [vim, bash]}\n")
    spec = files.resolve()
    assert spec.packages == ("bash", "linux-image-amd64", "openssh-server", "udev", "vim")
    assert spec.tools == ("apt", "mmdebstrap")
    assert spec.initrd.modules == ("erofs",)


def test_a_site_whose_images_tpms_know_adds_what_talks_to_one(files: Files) -> None:
    plain = files.resolve()
    more = "pcr_key: {key: pcr.key, public_key: pcr.pub}\n"
    files.write(SITE, FILES[SITE] + more)
    assert any("image/initrd-tpm.yaml" in one for one in files.problems())
    files.write("image/packages/tpm.yaml", "- libtss2-esys-3.0.2-0\n")
    files.write("image/initrd-tpm.yaml", "packages: [libtss2-mu0]\nmodules: [dm-crypt]\n")
    spec = files.resolve()
    assert set(spec.packages) - set(plain.packages) == {"libtss2-esys-3.0.2-0"}
    assert spec.initrd.packages == ("bash", "libtss2-mu0")
    assert spec.initrd.modules == ("erofs", "dm-crypt")
    assert plain.initrd.modules == ("erofs",)


def test_a_chain_of_three(files: Files) -> None:
    files.profile("extends: cpu\ndisk: {cidata: 32MiB}\n", "tiny")
    spec = files.resolve("tiny")
    assert spec.profile.disk.cidata == 32 << 20
    assert spec.profile.disk.root == 1 << 30
    assert spec.origins["profile.disk.cidata"] == "config/profiles/tiny.yaml"
    assert spec.origins["profile.description"] == CPU


def test_the_spec_survives_json(files: Files) -> None:
    spec = files.resolve()
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.image_id == "imgbuild-cpu"


def test_a_value_replaced_by_a_map_and_back_leaves_no_stale_origin() -> None:
    layers = Layers()
    layers.add({"a": {"b": 1, "c": 2}}, "one")
    layers.add({"a": 5}, "two")
    assert layers.origins == {("a",): "two"}
    layers.add({"a": {"b": 1}}, "three")
    assert layers.origins == {("a", "b"): "three"}
    layers.add({"a": {"b": {}}}, "four")
    layers.add({"a": {"b": {"c": 1}}}, "five")
    assert layers.origins == {("a", "b", "c"): "five"}


def test_layers_do_not_change_what_was_handed_in() -> None:
    first: dict[str, object] = {"a": {"b": 1}}
    layers = Layers()
    layers.add(first, "one")
    layers.add({"a": {"b": 2}}, "two")
    assert first == {"a": {"b": 1}}


def test_list_profiles_shows_good_abstract_and_broken_ones(files: Files) -> None:
    files.profile("extends: base\ndescription: bad\nfoo: 1\n", "worse")
    files.profile("a: [", "zzz")
    base, cpu, worse, zzz = list_profiles(files.project)
    assert base == ("base", "common ground", True, None, None)
    assert cpu == ("cpu", "no GPU", False, "base", None)
    assert worse.error is not None
    assert worse.error.startswith("config/profiles/worse.yaml: foo: unknown key")
    assert (worse.description, worse.extends) == ("bad", "base")
    assert zzz.error is not None
    assert "is not YAML" in zzz.error


def test_an_abstract_profile_need_not_be_whole(files: Files) -> None:
    files.profile("abstract: true\ndescription: part\n", "part")
    assert {info.name: info.error for info in list_profiles(files.project)}["part"] is None


def test_the_profiles_of_this_repository_are_good() -> None:
    project = Project(Path(__file__).parents[2])
    assert {info.name: info.error for info in list_profiles(project) if info.error} == {}


GPU_PROFILE = "extends: base\ndescription: a\ngpu: {model: A100, count: 8, memory: 80GiB}\n"


def test_a_profile_with_gpus_brings_the_sites_driver(files: Files) -> None:
    files.profile(GPU_PROFILE, "a100")
    spec = files.resolve("a100")
    assert spec.driver is not None
    assert spec.driver.modules == {"proprietary": ("nvidia-kernel-dkms",)}
    assert "libcuda1" in spec.packages
    assert files.resolve("cpu").driver is None
    assert "libcuda1" not in files.resolve("cpu").packages


def test_a_driver_that_the_site_does_not_have(files: Files) -> None:
    files.profile(GPU_PROFILE.replace("80GiB}", "80GiB, driver: {modules: open}}"), "a100")
    (told,) = files.problems("a100")
    assert told == (
        "config/sites/debian.yaml: gpu.driver: driver 'debian' has no open modules, which the "
        "profile asks for (hint: set gpu.driver.modules of the profile)"
    )
    files.profile(GPU_PROFILE, "a100")
    site = files.project.sites / "debian.yaml"
    site.write_text(f"{site.read_text()}gpu: {{driver: debain}}\n")
    (told,) = files.problems("a100")
    assert "there is no image/drivers/debain.yaml" in told
    assert "did you mean 'debian'" in told


def test_a_site_puts_others_in_the_place_of_roles_and_containers(files: Files) -> None:
    files.profile(GPU_PROFILE + "container: recipe:none\npackages: {roles: [base, ssh]}\n", "a100")
    files.write("image/packages/ssh-own.yaml", "- dropbear\n")
    site = files.project.sites / "debian.yaml"
    image = "docker://vllm/vllm-openai:v0.32.0"
    own = f"roles: {{ssh: ssh-own}}\ncontainers: {{'recipe:none': '{image}'}}\n"
    site.write_text(site.read_text() + own)
    spec = files.resolve("a100")
    assert "dropbear" in spec.packages
    assert "openssh-server" not in spec.packages
    assert spec.profile.container == image
    assert spec.profile.packages.roles == ("base", "ssh-own")
    assert spec.origins["profile.container"] == "config/sites/debian.yaml"


def test_a_stand_in_for_a_role_that_does_not_exist(files: Files) -> None:
    site = files.project.sites / "debian.yaml"
    site.write_text(site.read_text() + "roles: {bsae: ssh}\n")
    (told,) = files.problems()
    assert "config/sites/debian.yaml: roles.bsae: there is no role 'bsae'" in told


def test_a_site_says_which_driver_branch_it_has(files: Files) -> None:
    files.profile(GPU_PROFILE, "a100")
    site = files.project.sites / "debian.yaml"
    site.write_text(site.read_text() + "gpu: {branch: '580'}\n")
    spec = files.resolve("a100")
    assert spec.profile.gpu is not None
    assert spec.profile.gpu.driver.branch == "580"
    assert spec.origins["profile.gpu.driver.branch"] == "config/sites/debian.yaml"
    assert files.resolve("cpu").profile.gpu is None
