"""Many browsers on one page for long: threads, memory and open files of the server must stay level.

    python tools/soak_viewer.py CLOUD --clients 50 --messages 100000 --reconnects 2000

Clients speak the page's socket without a browser. The messages come in --rounds; after each the clients leave, the
server catches up, and what it holds is printed. The first --warm rounds come on top of the messages asked for: in them
the allocator's arenas and the libraries' caches fill. What is held after them is compared with what is held at the end.
"""

import argparse
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.raw_browser import RawBrowser

LEVEL = 1.1  # times what was held before


def held(process: int) -> dict[str, int]:
    """Threads, resident megabytes and open files of ``process``."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return {"threads": int(status["Threads"]), "megabytes": int(status["VmRSS"].split()[0]) >> 10, "files": files}


def send(port: int, messages: int, reconnects: int, seed: int, errors: list[Exception]) -> None:
    """One client: so many camera messages, and so many new connections between them."""
    choose = random.Random(seed)
    try:
        for visit in range(reconnects + 1):
            part = messages // (reconnects + 1) + (visit < messages % (reconnects + 1))
            with RawBrowser(port) as browser:
                for _ in range(max(part, 1)):
                    odd = {"fov": float("nan")} if choose.random() < 0.01 else {}
                    browser.camera(position=(choose.uniform(-1, 1), choose.uniform(-1, 1), -3.0), **odd)
    except Exception as error:  # told by main
        errors.append(error)


def crowd(port: int, clients: int, messages: int, reconnects: int) -> list[Exception]:
    """All clients at once; what went wrong with them."""
    errors: list[Exception] = []
    shares = [(messages // clients, reconnects // clients, seed, errors) for seed in range(clients)]
    threads = [threading.Thread(target=send, args=(port, *share)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def resting(process: int, seconds: float = 60) -> dict[str, int]:
    """What ``process`` holds once it has caught up: when its threads are the same for five seconds."""
    end, same, last = time.monotonic() + seconds, 0, held(process)
    while same < 5 and time.monotonic() < end:
        time.sleep(1)
        now = held(process)
        same, last = same + 1 if now["threads"] == last["threads"] else 0, now
    return last


def rounds(process: int, port: int, options: argparse.Namespace) -> tuple[list[dict[str, int]], list[Exception]]:
    """What ``process`` held after each round, the warm ones first, and what went wrong with clients."""
    seen: list[dict[str, int]] = []
    errors: list[Exception] = []
    for number in range(options.warm + options.rounds):
        start = time.monotonic()
        errors += crowd(port, options.clients, options.messages // options.rounds, options.reconnects // options.rounds)
        seconds = time.monotonic() - start
        seen.append(resting(process))
        kind = "warm" if number < options.warm else "    "
        print(f"{kind} {number + 1:3}  {seconds:5.0f} s  {seen[-1]}", flush=True)
    return seen, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cloud", type=Path)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--reconnects", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm", type=int, default=2, help="rounds of the same size that come first")
    parser.add_argument("--port", type=int, default=18_300)
    options = parser.parse_args()
    command = [sys.executable, "-m", "splat", "view", str(options.cloud), "--port", str(options.port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = server.stdout.readline()
        port = int(line.split("http://127.0.0.1:")[1].split()[0].strip("/"))
        said: list[str] = []
        threading.Thread(target=lambda: said.extend(server.stdout), daemon=True).start()
        seen, errors = rounds(server.pid, port, options)
    finally:
        server.terminate()
        server.wait(30)
    before, after = seen[max(options.warm - 1, 0)], seen[-1]
    print(f"before {before}\nafter  {after}\n{len(errors)} clients failed, {len(said)} lines printed")
    for text in (*map(repr, errors[:3]), *said[:5]):
        print(text.rstrip())
    level = all(after[name] <= LEVEL * before[name] + 1 for name in before)
    return 0 if level and not errors and not any("Traceback" in line for line in said) else 1


if __name__ == "__main__":
    sys.exit(main())
