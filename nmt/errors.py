"""What can go wrong at the boundary. Every message is one sentence: what was given, where, what is accepted.

NmtError
 ├── ConfigError     a config key or command-line option
 ├── DataError       a corpus, an input file or a line in it
 ├── RunError        a run folder that is missing, incomplete or of another configuration
 └── TrainingError   a training that cannot go on (a loss that is not finite)
"""


class NmtError(Exception):
    """An error of the user's input, told in one sentence; the command exits with code 2."""


class ConfigError(NmtError):
    """A config key or option has a value that is not accepted."""


class DataError(NmtError):
    """A corpus, an input file or a line of it cannot be used."""


class RunError(NmtError):
    """A run folder is missing, incomplete or was made with another configuration."""


class TrainingError(NmtError):
    """Training cannot go on."""
