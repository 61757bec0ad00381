"""The command line of the package. `make help` lists the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from deploy import commands, purge
from deploy.environments import Environment, environment, rehearsed
from deploy.steps import EXPECTED, Failed, Reporter, answer, explain, reason


def _url(environment: Environment, _: Reporter) -> None:
    answer(commands.url(environment, commands.Quiet()))


def _destroy(environment: Environment, report: Reporter) -> None:
    answer(commands.destroy(environment, report))


def _rehearse(environment: Environment, report: Reporter) -> None:
    answer(commands.rehearse(environment, report))


COMMANDS: dict[str, Callable[[Environment, Reporter], object]] = {
    "deploy": commands.deploy,
    "plan": commands.plan,
    "status": lambda environment, _: commands.status(environment),
    "refresh": commands.refresh,
    "bucket": commands.bucket,
    "url": _url,
    "logs": lambda environment, _: commands.logs(environment, commands.Quiet()),
    "unlock": commands.unlock,
    "destroy": _destroy,
    "rehearse": _rehearse,
    "purge": purge.purge,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deploy", description=__doc__)
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--env", required=True)
    given = parser.parse_args(arguments)
    report = Reporter()
    try:
        find = rehearsed if given.command == "rehearse" else environment
        COMMANDS[given.command](find(given.env), report)
    except Failed as failure:
        report.line(explain(failure, given.command))
        return 1
    except EXPECTED as error:
        report.line(explain(reason(error), given.command))
        return 1
    except KeyboardInterrupt:
        report.line("stopped; run the same command again to continue")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
