"""The proof of `mockserver verify`: which planted departures it finds, and whether it accuses a faithful gateway.

python -m tests.conformance.bench [--only WORD]
"""

import argparse
import statistics
import sys
import time

from mockserver import MockServer
from mockserver.conformance.gateway import Gateway, GatewaySession
from mockserver.conformance.verification import Verification, VerifySettings
from mockserver.conformance.verify_report import VerifyReport
from tests.conformance.gateways import CONTRACT, FAITHFUL, PLANTED, Departing, standing

SPEND = 2
TOKEN = "a-token-of-the-bench"


def verified(url: str, spend: int) -> VerifyReport:
    with GatewaySession(Gateway(url)) as session:
        return Verification(
            CONTRACT, session, VerifySettings(TOKEN, spend, 0.0), sleep=lambda _: None
        ).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="gateways whose name holds this")
    only = parser.parse_args().only
    seconds, missed, mixed, alarms, overspent = [], [], [], [], []
    print("| rule | the gateway … | found | spent | seconds |\n|---|---|---|---:|---:|")
    with MockServer() as double:
        for planted in [each for each in PLANTED if only in each.name]:
            double.tenant(TOKEN).reset()
            began = time.perf_counter()
            with standing(Departing(double.url, planted.change, planted.prepare)) as gateway:
                report = verified(gateway.url, SPEND)
            seconds.append(time.perf_counter() - began)
            found = {each.rule for each in report.findings} or {
                each.rule for each in report.warnings
            }
            if planted.rule not in found:
                missed.append(planted)
            elif found != {planted.rule}:
                mixed.append(planted)
            if len(double.tenant(TOKEN).predictions()) > SPEND:
                overspent.append(planted)
            print(
                f"| {planted.rule} | {planted.name} | {'/'.join(sorted(found)) or 'missed'} | {report.spent} | {seconds[-1]:.1f} |"
            )
            sys.stdout.flush()
    faithful = [name for name in FAITHFUL if only in name]
    for name in faithful:
        for spend in (0, SPEND, 9):
            with MockServer(**FAITHFUL[name]) as double:
                report = verified(double.url, spend)
            alarms += [(name, spend, each.rule, each.message) for each in report.findings]
        print(
            f"| faithful | {name} | {'accused' if any(each[0] == name for each in alarms) else 'conforms'} | {report.spent} | |"
        )
        sys.stdout.flush()
    print(
        f"\nfound {len(seconds) - len(missed)} of {len(seconds)} planted departures, {len(mixed)} of them with another rule beside it"
    )
    if seconds:
        print(
            f"median {statistics.median(seconds):.2f} s; more than {SPEND} predictions made by: {len(overspent)}"
        )
    print(
        f"{len(alarms)} false alarms in {3 * len(faithful)} verifications of {len(faithful)} faithful gateways"
    )
    for alarm in alarms:
        print("FALSE ALARM", *alarm)
    sys.exit(1 if missed or mixed or alarms or overspent else 0)


if __name__ == "__main__":
    main()
