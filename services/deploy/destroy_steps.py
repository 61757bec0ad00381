"""The steps of `make destroy`, its confirmation, its check for protection, and the deletion of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botocore.exceptions import ClientError

from deploy.environments import Environment
from deploy.steps import Failed
from deploy.terraform_variables import FILE

KEEP, DELETE = "keep", "delete"
SCALE, IMAGES, DESTROY = "scale to zero", "images in the registry", "terraform destroy"
DEFINITIONS, AUDIT, STOP = "task definitions", "audit by tag", "stop the emulated AWS"
STEPS = (SCALE, IMAGES, DESTROY, DEFINITIONS, AUDIT, STOP)
_BATCH = 100  # the most that BatchDeleteImage accepts


def confirmed(environment: Environment, variables: Mapping[str, str] = os.environ) -> str:
    """Return what to do with the images. Raise unless the operator has confirmed the removal of production.

    CONFIRM   the prefix of the names of the stack, in prod
    IMAGES    keep or delete; prod has no default, and the others delete the images
    """
    production = environment.name == "prod"
    images = variables.get("IMAGES", "" if production else DELETE)
    command = f"make destroy ENV={environment.name}"
    if production and variables.get("CONFIRM") != environment.project:
        raise Failed(
            "this removes production, and nothing was changed", f"{command} CONFIRM={environment.project}"
        )
    if images not in {KEEP, DELETE}:
        raise Failed(
            f"IMAGES={images} does not say what to do with the images, and nothing was changed",
            f"{command} CONFIRM={environment.project} IMAGES=keep, or IMAGES=delete",
        )
    return images


def agreed(environment: Environment) -> dict[str, str]:
    """What a rehearsal confirms, in which nothing is production."""
    return {"CONFIRM": environment.project, "IMAGES": DELETE}


def unprotected(environment: Environment) -> None:
    """Raise if AWS would refuse to delete the load balancer."""
    name = f"{environment.project}-alb"
    elb = environment.client("elbv2")
    try:
        found = elb.describe_load_balancers(Names=[name])["LoadBalancers"]
    except ClientError as error:
        if error.response["Error"]["Code"] in {"LoadBalancerNotFound", "LoadBalancerNotFoundException"}:
            return
        raise
    for balancer in found:
        attributes = elb.describe_load_balancer_attributes(LoadBalancerArn=balancer["LoadBalancerArn"])
        if {"Key": "deletion_protection.enabled", "Value": "true"} in attributes["Attributes"]:
            raise Failed(
                f"{name} is protected against deletion, and nothing was changed",
                f"Set deletion_protection = false in envs/{environment.root.name}/{FILE}, "
                f"run {environment.command('deploy')}, and try again",
            )


def delete_images(environment: Environment) -> int:
    """Delete all images in the registry. Return their number."""
    ecr = environment.client("ecr")
    try:
        pages = list(ecr.get_paginator("list_images").paginate(repositoryName=environment.project))
    except ClientError as error:
        if error.response["Error"]["Code"] == "RepositoryNotFoundException":
            return 0
        raise
    digests = sorted({image["imageDigest"] for page in pages for image in page["imageIds"]})
    for start in range(0, len(digests), _BATCH):
        batch = [{"imageDigest": digest} for digest in digests[start : start + _BATCH]]
        failed = ecr.batch_delete_image(repositoryName=environment.project, imageIds=batch)["failures"]
        if failed:
            raise Failed(f"ECR keeps {len(failed)} images: {failed[0]['failureReason']}")
    return len(digests)


@contextmanager
def naming_what_remains(environment: Environment) -> Iterator[None]:
    """Name the steps after the one that fails: they did not run."""
    try:
        yield
    except Failed as failure:
        steps = [step for step in STEPS if step != STOP or environment.emulated]
        remaining = steps[steps.index(failure.step) + 1 :]
        if remaining:
            again = environment.command("destroy")
            failure.then += f"\n  Not done: {', '.join(remaining)}. {again} does the rest when repeated"
        raise
