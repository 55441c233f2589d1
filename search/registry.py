"""MLflow's model registry: an artifact as the next version of a name."""

from pathlib import Path
from typing import Any

from search.tracking_server import check_server, default_artifact_root, sqlite_path
from spaces.errors import TrackingError


def register_artifact(out: Path, name: str, tracking_uri: str, *, run_id: str | None = None) -> str:
    """Put an artifact into the model registry as the next version of a name.

    Args:
        out: folder of `write_artifact`.
        name: of the registered model.
        tracking_uri: whose registry.
        run_id: the run that gets the files; a run of its own, in an experiment of the model's name, when omitted.

    Returns:
        The new version's number.

    Raises:
        TrackingError: the server does not answer or refuses.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    check_server(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    try:
        if run_id is None:
            run_id = _export_run(client, name, tracking_uri)
        client.log_artifacts(run_id, str(out), "model")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        made = client.create_model_version(name, source, run_id)
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TrackingError(f"model {name!r} could not be registered, {reason}: {tracking_uri}") from error
    return str(made.version)


def _export_run(client: Any, name: str, tracking_uri: str) -> str:
    """A finished run to hold the files, in the experiment of the model's name."""
    experiment = client.get_experiment_by_name(name)
    if experiment:
        experiment_id = experiment.experiment_id
    else:
        # Without a server, MLflow would put the files into ./mlruns of whatever folder this runs in.
        beside = default_artifact_root(sqlite_path(tracking_uri).parent) if tracking_uri.startswith("sqlite") else None
        experiment_id = client.create_experiment(name, artifact_location=(beside / name).as_uri() if beside else None)
    run_id = str(client.create_run(experiment_id, run_name="export").info.run_id)
    client.set_terminated(run_id)
    return run_id
