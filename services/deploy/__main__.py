"""The command line of the package. `make help` lists the commands."""

from __future__ import annotations

import argparse
import sys

from botocore.exceptions import ClientError

from deploy import commands
from deploy.environments import environment
from deploy.steps import Failed, Reporter, answer, explain, reason


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deploy", description=__doc__)
    parser.add_argument("command", choices=["deploy", "bucket", "url", "logs", "destroy"])
    parser.add_argument("--env", required=True)
    given = parser.parse_args(arguments)
    report = Reporter()
    try:
        where = environment(given.env)
        match given.command:
            case "deploy":
                commands.deploy(where, report)
            case "bucket":
                commands.bucket(where, report)
            case "url":
                answer(commands.url(where, commands.Quiet()))
            case "logs":
                commands.logs(where, commands.Quiet())
            case "destroy":
                answer(commands.destroy(where, report))
    except Failed as failure:
        report.line(explain(failure))
        return 1
    except ClientError as error:
        report.line(explain(reason(error)))
        return 1
    except KeyboardInterrupt:
        report.line("stopped; run the same command again to continue")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
