#!/usr/bin/env python3
"""The short form of `make soak`: iocp-echo and iocp-chat under a storm of clients for some seconds.

tools/soak says what is looked at, tests/soak has the storm. Memory is judged in longer runs only.
"""
import os
import sys
from pathlib import Path

SECONDS = "4"

if __name__ == "__main__":
    soak = Path(__file__).resolve().parents[2] / "tools/soak"
    os.execv(soak, [str(soak), "--programs", sys.argv[1], "--seconds", SECONDS, "--seed", "1",
                    "--backend", os.environ["TEST_BACKEND"]])
