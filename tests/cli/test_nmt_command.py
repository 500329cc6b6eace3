import importlib
import io
import subprocess
import sys

import pytest

from nmt.cli import main
from nmt.cli.common import exit_code
from nmt.errors import DataError

COMMANDS = ("train", "translate", "evaluate", "align", "compare")


def helped(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_lists_all_commands(capsys):
    text = helped(capsys)
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "130 after Ctrl-C" in text


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_every_command_has_help_for_every_option(capsys, command):
    text = helped(capsys, command)
    assert text.startswith(f"usage: nmt {command}")
    options = [line.strip() for line in text.splitlines() if line.startswith("  -")]
    assert len(options) >= 3
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if line.startswith("  -"):
            explained = "  " in line.strip() or lines[place + 1].startswith(" " * 20)
            assert explained, line


def test_no_command_and_an_unknown_one(nmt):
    assert "required: COMMAND; `nmt --help`" in nmt().refused()
    assert "invalid choice: 'transalte'" in nmt("transalte").refused()
    assert nmt("--beam").code == 2


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("nmt ")


@pytest.mark.parametrize("code", [0, 2])
def test_train_gets_all_that_follows(monkeypatch, code):
    seen = []

    class Module:
        @staticmethod
        def main(arguments):
            seen.append(arguments)
            return code

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: Module if name == "nmt.cli.train" else real(name))
    assert main(["train", "attention=mean", "-m", "--help"]) == code
    assert seen == [["attention=mean", "-m", "--help"]]


def test_help_starts_without_torch():
    program = (
        "import sys\nfrom nmt.cli import main\n"
        "try: main(['translate', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'sacrebleu', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"--n-best" in done.stdout


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BrokenPipeError(), 0, ""),
        (KeyboardInterrupt(), 130, ""),
        (DataError("a sentence"), 2, "nmt: a sentence\n"),
        (PermissionError(13, "Permission denied", "a file"), 2, "nmt: a file: Permission denied\n"),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, said):
    def fail():
        raise error

    # what is left in the buffer of a broken pipe is thrown away, here with no descriptor to redirect
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert exit_code(fail) == code
    assert capsys.readouterr().err == said


def test_errors_of_the_program_itself_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)


def test_help_of_training_can_be_cut_short():
    program = "import sys; from nmt.cli import main; sys.exit(main(['train', '--help']))"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with child:
        child.stdout.close()
        _, errors = child.communicate(timeout=120)
    assert (child.returncode, errors) == (0, b"")
