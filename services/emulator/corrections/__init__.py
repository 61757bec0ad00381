"""Corrections of MiniStack 1.5.33, in process, where it differs from AWS in a way that matters to this stack.

One module for each part of MiniStack, one function for each difference, and a test in tests/deploy for each
function. No file of the package is changed. Another version may need other corrections, so the version is
pinned.
"""

from __future__ import annotations

from emulator.balancer import Balancer
from emulator.certificates import Authority
from emulator.corrections import (
    acm,
    authorization,
    cloudwatch,
    ec2,
    ecr,
    ecs,
    elb,
    http,
    iam,
    ssm,
    tagging,
    tasks,
    wafv2,
)
from emulator.registry import Tokens
from emulator.settings import Settings
from guard.ministack_s3 import check_forms


def apply(settings: Settings, balancer: Balancer, tokens: Tokens, authority: Authority) -> None:
    """Apply all corrections.

    Call it before MiniStack's application is loaded, which binds its routes then.
    """
    check_forms()
    http.outlast_idle_clients()
    ecs.return_services_as_sent()
    ecs.begin_first_deployments()
    ecs.drop_failed_deployments()
    ecs.keep_managed_draining()
    ec2.keep_endpoint_policies()
    ec2.keep_flow_logs_whole()
    ec2.honour_client_tokens()
    cloudwatch.keep_alarms_as_sent()
    cloudwatch.return_whole_alarms()
    ssm.add_ecs_machine_image()
    ssm.decrypt_secrets_of_tasks()
    tagging.list_deleted_resources()
    ecr.name_repositories(settings)
    ecr.issue_tokens(settings, tokens)
    ecr.delete_images_with_repository()
    iam.match_unknown_resources()
    iam.match_policies_for_public_parameters()
    authorization.check_each_resource()
    iam.record_permissions()
    tasks.run_as_defined(settings)
    tasks.lead_to_this_aws(settings)
    tasks.shorten_drains(settings)
    tasks.stop_as_ecs(balancer)
    tasks.issue_role_credentials(settings)
    elb.report_target_health(balancer)
    elb.miss_target_groups_by_name()
    elb.check_access_logs()
    acm.issue_after_validation(authority)
    wafv2.keep_logging_configurations()
