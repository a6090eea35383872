"""The settings of a run that was deployed: of files, and above them what a person typed into the form of the run."""

from pathlib import Path

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from neardup.archive.prepare import remembered_root
from neardup.settings.file import load_settings
from neardup.settings.schema import Settings
from tasks.settings_files import describe, flatten, read_files, settings_files


def settings_of_run(given: Settings, out: Path, archive: Path | None = None, **places: str) -> Settings:
    """The settings of the flow run that is going on; says where they come from.

    A command has read its settings file and gives all settings. Of a deployment's run only what was typed into its form
    is given. The rest is, the first that names it: the output folder's `neardup.toml`; `[prepare]` of the archive's;
    the deployment's own parameters, as prefect.yaml has them; the defaults.

    Args:
        given: the parameters of the flow run, as settings.
        out: the output folder.
        archive: the archive, where the flow reads one; else the one that `out` was prepared from.
        places: parameter of the flow → where its value stands in the settings; `""` for all of them.

    Raises:
        ConfigError: a file is no TOML, or a field of it is unknown or out of its bounds.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return given
    archive = archive or remembered_root(out)
    with get_client(sync_client=True) as client:
        deployed = flatten(client.read_deployment(run.deployment_id).parameters, places)
    parameters = flatten(run.parameters, places)
    standing = {name: value for name, value in parameters.items() if name in deployed and deployed[name] == value}
    typed = {name: value for name, value in parameters.items() if name not in standing}
    files = settings_files(out, archive)
    sources = [f"typed for this run: {', '.join(typed)}"] if typed else []
    sources += [describe(path, archive) for path in files]
    sources += [f"of the deployment: {', '.join(standing)}"] if standing else []
    get_run_logger().info("settings, the first that names one: %s", "; ".join([*sources, "the defaults"]))
    return load_settings(None, standing | read_files(files, archive) | typed)
