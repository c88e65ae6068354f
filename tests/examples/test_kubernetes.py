"""The Deployment, against the Kubernetes schemas and what they cannot say."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.examples.conftest import EXAMPLES

FILE = EXAMPLES / "kubernetes/deployment.yaml"


@pytest.fixture
def deployment() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_knows_every_field(deployment: dict[str, Any], version: str) -> None:
    """From the first version that starts sidecars to the newest that the package has."""
    kubernetes_validate.validate(deployment, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found(deployment: dict[str, Any]) -> None:
    deployment["spec"]["template"]["spec"]["initContainers"][0]["privileged"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.29", strict=True)


def test_the_parts_of_the_pod_fit_together(deployment: dict[str, Any]) -> None:
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    (daemon,), (runner,) = pod["initContainers"], pod["containers"]
    assert daemon["restartPolicy"] == "Always"
    assert runner["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    places = {
        container["name"]: {mount["name"]: mount for mount in container["volumeMounts"]}
        for container in (daemon, runner)
    }
    defined = {volume["name"] for volume in pod["volumes"]}
    assert set(places["docker"]) == defined
    assert set(places["runner"]) == {"docker-tls-client", "workspace"}
    assert places["runner"]["docker-tls-client"]["readOnly"] is True
    assert places["runner"]["workspace"]["mountPath"] == places["docker"]["workspace"]["mountPath"]
