import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nmt.cli.memory import give_back, set_limits

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
LAYER = "LRU_CACHE_CAPACITY"
OURS = (CAPACITY, "DNNL_PRIMITIVE_CACHE_CAPACITY", LAYER, "GLIBC_TUNABLES", "LD_PRELOAD")
MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


@pytest.fixture
def calls(monkeypatch):
    """A C library of glibc that notes what `mallopt` is given, and an environment that says nothing."""
    found = []
    for name in (*OURS, *MALLOC):
        # set first, so that what the program writes is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    library = SimpleNamespace(
        mallopt=lambda option, value: found.append((option, value)), malloc_trim=lambda pad: found.append(pad)
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    return found


def test_limits_are_set_where_nobody_has_set_them(calls):
    set_limits()
    assert (os.environ[CAPACITY], os.environ[LAYER]) == ("256", "64")
    assert calls == [(-1, 1 << 30), (-3, 32 << 20)]


@pytest.mark.parametrize("name", [*OURS[3:], *MALLOC])
def test_a_malloc_that_the_environment_sets_up_is_left_alone(calls, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    set_limits()
    assert calls == [] and os.environ[CAPACITY] == "256"


@pytest.mark.parametrize("name", OURS[:2])
def test_a_capacity_that_the_environment_gives_stands(calls, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    set_limits()
    assert (
        os.environ[name] == "7"
        and os.environ[LAYER] == "64"
        and sum(each in os.environ for each in OURS[:2]) == 1
        and calls
    )


def test_a_capacity_of_the_layer_above_stands(calls, monkeypatch):
    monkeypatch.setenv(LAYER, "7")
    set_limits()
    assert os.environ[LAYER] == "7" and os.environ[CAPACITY] == "256"


def test_unused_memory_is_given_back(calls):
    give_back()
    assert calls == [0]


def test_another_c_library_is_left_alone(calls, monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    set_limits()
    give_back()
    assert calls == []


@pytest.mark.parametrize(
    "start", ["nmt.cli import main; main(['compare', 'none'])", "nmt.cli.train import main; main(['a=b'])"]
)
def test_every_command_sets_them_before_torch_is_there(start):
    program = (
        "import platform, sys\n"
        "def libc_ver(): print('torch' in sys.modules); return '', ''\n"
        "platform.libc_ver = libc_ver\n"
        f"from {start}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the numbers of the options are those of glibc")
def test_glibc_accepts_the_options():
    program = (
        "import ctypes, sys; from nmt.cli import memory\n"
        "library = ctypes.CDLL(None)\n"
        "sys.exit(not all(library.mallopt(option, value) for option, value in memory._OPTIONS.items()))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
