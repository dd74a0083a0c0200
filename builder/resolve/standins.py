"""What a site puts in the place of what a profile names: lists, images, driver branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.resolve.problems import did_you_mean, dotted, problem, shown

if TYPE_CHECKING:
    from builder.core.paths import Project
    from builder.model.site import Site
    from builder.resolve.profiles import LoadedProfile


def stand_in(project: Project, profile: LoadedProfile, site: Site, site_name: str) -> list[str]:
    """Lay the site's stand-ins over a loaded profile; return what is wrong with them.

    Afterwards the values that a stand-in replaced have the site's file as their origin.
    """
    if profile.value is None:
        return []
    file = shown(project, project.sites / f"{site_name}.yaml")
    node = profile.value
    roles = tuple(site.roles.get(role, role) for role in node.packages.roles)
    if roles != node.packages.roles:
        profile.layers.add({"packages": {"roles": list(roles)}}, file)
        packages = node.packages.model_copy(update={"roles": roles})
        node = node.model_copy(update={"packages": packages})
    container = site.containers.get(node.container or "")
    if container is not None:
        profile.layers.add({"container": container}, file)
        node = node.model_copy(update={"container": container})
    if node.gpu and site.gpu.branch:
        profile.layers.add({"gpu": {"driver": {"branch": site.gpu.branch}}}, file)
        driver = node.gpu.driver.model_copy(update={"branch": site.gpu.branch})
        node = node.model_copy(update={"gpu": node.gpu.model_copy(update={"driver": driver})})
    profile.value = node
    return _unknown_roles(project, site, file)


def _unknown_roles(project: Project, site: Site, file: str) -> list[str]:
    folder = project.image / "packages"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    return [
        problem(
            file,
            dotted(("roles", name)),
            f"there is no role '{name}' in image/packages/",
            did_you_mean(name, known, "roles"),
        )
        for name in site.roles
        if name not in known
    ]
