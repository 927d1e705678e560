"""The manifests against Kubernetes' own schemas, KubeRay's fields, and the reader that Ray's autoscaler has."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.recipes import load_recipe
from cluster.serving.config import ServingConfig

kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "cluster" / "kubernetes"

# Fields of KubeRay's ray.io/v1 kinds (1.3 to 1.5) and their JSON types; a pod template is Kubernetes' own.
TEXT, WHOLE, NUMBER, FLAG, MAPPING = "string", "integer", "number", "boolean", "object"
STRINGS = {"type": MAPPING, "additionalProperties": {"type": TEXT}}
POD = {"type": MAPPING, "required": ["spec"]}


def kind(required: list[str], **fields: Any) -> dict[str, Any]:
    """The schema of one kind: these fields and no others."""
    properties = {name: {"type": field} if isinstance(field, str) else field for name, field in fields.items()}
    return {"type": MAPPING, "required": required, "additionalProperties": False, "properties": properties}


AUTOSCALER = kind(
    [], idleTimeoutSeconds=WHOLE, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]}, resources=MAPPING,
    image=TEXT, imagePullPolicy=TEXT, env="array", envFrom="array", volumeMounts="array", securityContext=MAPPING,
    version={"enum": ["v1", "v2"]},
)  # fmt: skip
HEAD = kind(
    ["template", "rayStartParams"], serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    headService=MAPPING, enableIngress=FLAG, rayStartParams=STRINGS, template=POD,
)  # fmt: skip
GROUP = kind(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"], groupName=TEXT, replicas=WHOLE,
    minReplicas=WHOLE, maxReplicas=WHOLE, idleTimeoutSeconds=WHOLE, numOfHosts=WHOLE, suspend=FLAG,
    rayStartParams=STRINGS, template=POD, scaleStrategy=MAPPING,
)  # fmt: skip
CLUSTER = kind(
    ["headGroupSpec"], rayVersion=TEXT, enableInTreeAutoscaling=FLAG, autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=STRINGS, suspend=FLAG, gcsFaultToleranceOptions=MAPPING, headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": GROUP},
)  # fmt: skip
JOB = kind(
    [], entrypoint=TEXT, runtimeEnvYAML=TEXT, metadata=STRINGS, jobId=TEXT, backoffLimit=WHOLE, suspend=FLAG,
    activeDeadlineSeconds=WHOLE, submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    shutdownAfterJobFinishes=FLAG, ttlSecondsAfterFinished=WHOLE, entrypointNumCpus=NUMBER, entrypointNumGpus=NUMBER,
    entrypointResources=TEXT, submitterPodTemplate=POD, clusterSelector=STRINGS, rayClusterSpec=CLUSTER,
)  # fmt: skip
SERVICE = kind(["serveConfigV2"], serveConfigV2=TEXT, serveService=MAPPING, rayClusterConfig=CLUSTER)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB, "RayService": SERVICE}
FILES = sorted(MANIFESTS.glob("*.yaml"))


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((MANIFESTS / name).read_text(encoding="utf-8"))


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def pods(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    cluster = cluster_of(manifest)
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster.get("workerGroupSpecs", []):
        yield group["groupName"], group["template"]


def check(manifest: dict[str, Any]) -> None:
    """Raise ValidationError for what KubeRay or Kubernetes would refuse."""
    import jsonschema

    jsonschema.validate(manifest["spec"], SPECS[manifest["kind"]])
    for name, template in pods(manifest):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template.get("metadata", {})}}
        kubernetes_validate.validate({**pod, "spec": template["spec"]}, "1.33", strict=True)


def test_there_is_one_of_each_kind() -> None:
    assert sorted(read(path.name)["kind"] for path in FILES) == ["RayCluster", "RayJob", "RayService"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifests_are_valid(path: Path) -> None:
    manifest = read(path.name)
    assert manifest["apiVersion"] == "ray.io/v1"
    check(manifest)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_mounted_is_there(path: Path) -> None:
    """Schemas cannot say it: a mount without its volume is refused only when the pod is made."""
    for _, template in pods(read(path.name)):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for c in template["spec"]["containers"] for mount in c["volumeMounts"]} <= volumes


def test_the_check_refuses_misspelt_fields_at_every_level() -> None:
    import jsonschema

    good = read("raycluster.yaml")
    for break_it in (
        lambda spec: spec.update(rayversion="2.60.0"),
        lambda spec: spec["workerGroupSpecs"][0].update(minReplicas="one"),
        lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].update(images="x"),
        lambda spec: spec["workerGroupSpecs"][1]["template"]["spec"].update(tolerations={"key": "x"}),
    ):
        bad = copy.deepcopy(good)
        break_it(bad["spec"])
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            check(bad)


def test_the_job_makes_the_same_cluster() -> None:
    assert cluster_of(read("rayjob.yaml")) == cluster_of(read("raycluster.yaml"))


def test_the_autoscaler_reads_the_groups() -> None:
    """Ray's own reader of the manifest, as it runs beside the head."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    types = autoscaling_config._derive_autoscaling_config_from_ray_cr(read("raycluster.yaml"))["available_node_types"]
    assert {name: (node["min_workers"], node["max_workers"]) for name, node in types.items()} == {
        "headgroup": (0, 0), "rollout": (1, 8), "gpu": (0, 2),
    }  # fmt: skip
    assert types["headgroup"]["resources"]["CPU"] == 0, "nothing but the driver runs on the head"
    assert types["rollout"]["resources"]["CPU"] == 8 and "GPU" not in types["rollout"]["resources"]
    assert types["gpu"]["resources"]["GPU"] == 8


def test_the_recipes_that_manifests_name_are_shipped_and_fit_a_node() -> None:
    job = read("rayjob.yaml")["spec"]
    recipe = next(word for word in job["entrypoint"].split() if word.endswith(".yaml"))
    config = load_recipe(ROOT / recipe)
    assert config.rollout.engine.count * config.rollout.engine.num_gpus + config.learner.workers <= 8
    assert yaml.safe_load(job["runtimeEnvYAML"])["env_vars"] == {"ATOMMEM_RUNS": "/shared/runs"}


def test_the_service_config_is_one_that_serve_reads() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, _, builder = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), builder))
    serving = ServingConfig.model_validate(application.args)
    assert serving.http.keys, "the world may not write without a key"
    assert serving.engine_replicas.max == cluster_of(read("rayservice.yaml"))["workerGroupSpecs"][0]["maxReplicas"]
