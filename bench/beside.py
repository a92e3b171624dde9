"""Other subjects beside the relay, in the same rounds: `python -m bench.beside` writes bench/beside.md.

- naive: bench/naive.py, on httpx2, as in `make bench`
- naive on httpx 0.28: the same file in an environment of its own
- Node-RED on Node 24: `http in`, a function, an `http request`, its answer; it keeps nothing
- `--against REVISION`: the relay as it was then, from a worktree of this repository

What cannot be had (no npm, no registry) is left out with a word. Each subject is fetched once, into the bench's folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import compare, summarise
from bench.machine import VOLATILE, describe_machine, read_file_system
from bench.processes import BenchError, Cores, choose_cores, stay_on
from bench.run import say
from bench.scenarios import Bench, Latency, Throughput, measure_latency, measure_receipts, measure_throughput
from bench.subjects import BENCH, NAIVE, RELAY, Subject

HTTPX = ("fastapi", "httpx==0.28.1", "uvicorn", "uvloop", "httptools")
NODE_RED = ("node-red@5", "node@24")
PARTS = ("saturated", "receipts", "two cores", "tls", "100/s")
FLOW_FUNCTION = """
const event = msg.payload, id = msg.req.headers["x-nector-delivery-id"];
msg.method = "POST";
msg.url = env.get("GALLABOX_BASE_URL") + "/devapi/messages/whatsapp";
msg.headers = {"content-type": "application/json", "apiKey": "bench", "apiSecret": "bench"};
const template = {templateName: "coins_earned", bodyValues: {"1": event.user_name, "2": String(event.amount)}};
msg.payload = {channelId: "bench", channelType: "whatsapp", localMessageId: id,
  recipient: {name: event.user_name, phone: "91" + event.user_mobile}, whatsapp: {type: "template", template}};
return msg;
"""


def list_subjects(folder: Path, against: str | None) -> list[Subject]:
    """Return what can be had beside the relay; what cannot is told."""
    makers: list[tuple[str, Callable[[Path], Subject]]] = [("naive on httpx 0.28", fetch_httpx)]
    makers.append(("Node-RED", fetch_node_red))
    if against is not None:
        makers.append((against, lambda place: fetch_release(place, against)))
    found = [RELAY, NAIVE]
    for name, fetch in makers:
        try:
            found.append(fetch(folder / "subjects"))
        except (OSError, subprocess.SubprocessError) as error:
            say(f"{name}: left out, it cannot be had here ({type(error).__name__})")
    return found


def fetch_httpx(folder: Path) -> Subject:
    """Return the naive relay on httpx 0.28, whose environment is made if it is not there."""
    place = folder / "httpx"
    if not (place / "ready").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(place)])
        _run([str(place / "bin/python"), "-m", "pip", "install", "--quiet", *HTTPX])
        (place / "ready").touch()
    command = [str(place / "bin/uvicorn"), "--app-dir", str(BENCH)]
    return Subject("naive on httpx 0.28", lambda port: [*command, "--port", str(port), "naive:app"])


def fetch_node_red(folder: Path) -> Subject:
    """Return Node-RED on Node 24, installed if it is not there."""
    place = folder / "node-red"
    if not (place / "ready").exists():
        place.mkdir(parents=True, exist_ok=True)
        _run([shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--prefix", str(place), *NODE_RED])
        (place / "ready").touch()
    (place / "flows.json").write_text(json.dumps(_describe_flow()), encoding="utf-8")
    settings = {"disableEditor": True, "httpAdminRoot": False, "flowFile": "flows.json", "uiHost": "127.0.0.1"}
    quiet = {"logging": {"console": {"level": "warn"}}}
    (place / "settings.js").write_text(f"module.exports = {json.dumps({**settings, **quiet})};\n", encoding="utf-8")
    modules = place / "node_modules"
    command = [str(modules / ".bin/node"), str(modules / "node-red/red.js"), "--userDir", str(place)]
    return Subject("Node-RED", lambda port: [*command, "--port", str(port)])


def fetch_release(folder: Path, revision: str) -> Subject:
    """Return the relay as it was at a revision, from a worktree with an environment of its own."""
    place = folder / revision
    if not (place / ".venv/ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        root = BENCH.parent
        _run(["git", "-C", str(root), "worktree", "prune"])
        _run(["git", "-C", str(root), "worktree", "add", "--detach", "--force", str(place), revision])
        _run(["make", "-C", str(place), "setup", f"PYTHON={sys.executable}"])
    command = [str(place / ".venv/bin/nector-relay"), "serve", "--host", "127.0.0.1"]
    return Subject(revision, lambda port: [*command, "--port", str(port)])


def _run(command: Sequence[str]) -> None:
    say(f"fetching: {Path(command[0]).name} {command[1]} …")
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def _describe_flow() -> list[dict[str, object]]:
    tab: dict[str, object] = {"id": "tab", "type": "tab", "label": "relay"}
    ways = {"x": 0, "y": 0, "z": "tab"}
    return [
        tab,
        {**ways, "id": "in", "type": "http in", "url": "/webhooks/nector", "method": "post", "wires": [["make"]]},
        {**ways, "id": "make", "type": "function", "func": FLOW_FUNCTION, "outputs": 1, "wires": [["send"]]},
        {**ways, "id": "send", "type": "http request", "method": "use", "ret": "txt", "wires": [["out"]]},
        {**ways, "id": "out", "type": "http response", "statusCode": "202", "wires": []},
        {**ways, "id": "look", "type": "http in", "url": "/healthz", "method": "get", "wires": [["well"]]},
        {**ways, "id": "well", "type": "http response", "statusCode": "200", "wires": []},
    ]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a part: each subject's figures, by its name."""

    figures: dict[str, Throughput | Latency]


def measure_part(bench: Bench, subjects: Sequence[Subject], part: str, rounds: int) -> list[Round]:
    """Return the rounds of a part, each subject in each of them. One that does not run there is told, and left out."""
    measure: Callable[[Bench, Subject], Throughput | Latency] = measure_throughput
    if part == "100/s":
        measure = measure_latency
    bench = replace(bench, tls=part == "tls", cores=Cores(None, None) if part == "two cores" else bench.cores)
    stay_on(bench.cores.peers)
    found, failed = [], set[str]()
    for number in range(1, rounds + 1):
        say(f"{part}: round {number} of {rounds}")
        figures: dict[str, Throughput | Latency] = {}
        for subject in subjects:
            if subject.name in failed:
                continue
            try:
                # A receipt of ours is held against an event of theirs: of receipts they know nothing.
                is_receipt = part == "receipts" and subject is RELAY
                figures[subject.name] = one = (measure_receipts if is_receipt else measure)(bench, subject)
                if one.delivered.lost:  # such as by an earlier relay that can be told no authority of one's own
                    raise BenchError(f"{one.delivered.lost} events were taken and not delivered")  # noqa: TRY301
            except BenchError as error:
                failed.add(subject.name)
                say(f"{subject.name}: left out of {part}: {str(error)[:200]}")
        found.append(Round(figures))
    return [Round({name: one for name, one in each.figures.items() if name not in failed}) for each in found]


def write_page(facts: dict[str, str], parts: dict[str, list[Round]]) -> str:
    """Return the page as Markdown; ratios are the relay's figure by the other's, round by round."""
    lines = ["# The relay beside others", "", "Written by `python -m bench.beside`; see [README.md](README.md).", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += ["", "Medians [lowest..highest]; the subjects take turns, and ratios are taken round by round.", ""]
    for part, rounds in parts.items():
        lines += [f"## {part}", "", *(_show_latency(rounds) if part == "100/s" else _show_throughput(rounds)), ""]
    return "\n".join(lines)


def _show_throughput(rounds: Sequence[Round]) -> Iterator[str]:
    yield "| | delivered/s | relay ÷ it | CPU µs an event | relay ÷ it | KB written | write calls | p50 / p99 ms |"
    yield "|---|---|---|---|---|---|---|---|"
    ours = [one for each in rounds if isinstance(one := each.figures.get(RELAY.name), Throughput)]
    for name in rounds[0].figures if rounds else ():
        theirs = [one for each in rounds if isinstance(one := each.figures[name], Throughput)]
        speed = compare([one.per_s for one in ours], [one.per_s for one in theirs]).show(2)
        cost = compare([one.cpu_us for one in ours], [one.cpu_us for one in theirs]).show(2)
        written = summarise([one.written.kb for one in theirs]).show(1)
        calls = summarise([one.written.calls for one in theirs]).show(1)
        waits = f"{summarise([one.p50_ms for one in theirs]).show(1)} / "
        waits += summarise([one.p99_ms for one in theirs]).show(1)
        per_s = summarise([one.per_s for one in theirs]).show(0)
        cpu = summarise([one.cpu_us for one in theirs]).show(0)
        yield f"| {name} | {per_s} | {speed} | {cpu} | {cost} | {written} | {calls} | {waits} |"


def _show_latency(rounds: Sequence[Round]) -> Iterator[str]:
    yield "| | accept p50 ms | accept p99 ms | event → provider p50 ms | CPU µs an event | KB written |"
    yield "|---|---|---|---|---|---|"
    for name in rounds[0].figures if rounds else ():
        each = [one for each in rounds if isinstance(one := each.figures[name], Latency)]
        read = (
            summarise([one.accept_p50_ms for one in each]).show(2),
            summarise([one.accept_p99_ms for one in each]).show(2),
            summarise([one.arrival_p50_ms for one in each]).show(2),
            summarise([one.cpu_us for one in each]).show(0),
            summarise([one.written.kb for one in each]).show(1),
        )
        yield f"| {name} | {' | '.join(read)} |"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description="Measure the relay beside others.")
    parser.add_argument("--rounds", type=int, default=5, help="of each part; one takes about 25 s (default: 5)")
    parser.add_argument("--events", type=int, default=4000, help="of each round (default: 4000)")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part")
    parser.add_argument("--against", metavar="REVISION", help="an earlier relay, from a worktree, as a subject too")
    parser.add_argument("--interpreter", metavar="WORDS", help="say on the page how this Python was built")
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix) / "bench-tmp", help="a folder on a real disk")
    parser.add_argument("--output", type=Path, default=BENCH / "beside.md", help="where to write the page")
    return parser.parse_args()


def main() -> None:
    given = read_arguments()
    given.folder.mkdir(parents=True, exist_ok=True)
    if (file_system := read_file_system(given.folder)) in VOLATILE:
        sys.exit(f"bench: --folder is on {file_system}, where fsync does nothing; name a folder on a real disk")
    subjects = list_subjects(given.folder, given.against)
    facts = dict(describe_machine(given.folder))
    if given.interpreter:
        facts["Python"] += f"; {given.interpreter}"
    cores = choose_cores()
    bench = Bench(given.folder, cores, events=given.events, seconds=10, queued=0)
    parts = {part: measure_part(bench, subjects, part, given.rounds) for part in given.only or PARTS}
    page = write_page(facts, parts)
    given.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
