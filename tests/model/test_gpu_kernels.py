"""What is written for a GPU compiles for one, also where there is none; test_kernels.py says whether it is right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nmt.model


def test_every_kernel_compiles_for_an_h200(tmp_path):
    pytest.importorskip("triton", reason="NOT TESTED: there is no Triton")
    script = Path(__file__).with_name("compile_for_gpu.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-4000:]
    source = (Path(nmt.model.__file__).parent / "gpu_kernels.py").read_text(encoding="utf-8")
    started = set(re.findall(r"^ *(_\w+)\[[^\]]+\]\(", source, re.MULTILINE))
    assert len(started) > 9 and started <= set(done.stdout.split())
