"""Read every file that is named, one a line on stdin, in this process, with little memory; print what came of each.

The first argument is how many bytes more than at the start may be taken.
"""

import json
import resource
import sys
import time

started = []
sys.addaudithook(
    lambda event, arguments: (
        started.append(event)
        if event in ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.connect")
        else None
    )
)

import cnnfilter  # noqa: E402


def memory() -> int:
    """The bytes of data that this process has."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData"))


cnnfilter.read_image(sys.argv[2])  # what every reading imports
ceiling = memory() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))
for path in sys.stdin.read().splitlines():
    began = time.perf_counter()
    try:
        said = f"ok {cnnfilter.read_image(path).pixels.shape}"
    except cnnfilter.CnnfilterError as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([path, said, time.perf_counter() - began, started]))
    started.clear()
