"""The one error that a user's input can cause."""


class UserError(Exception):
    """Bad input: one line that names the file, the value and the remedy.

    Library code raises it at the edge (a file, a program's options, a checkpoint); the programs
    print it and exit with status 2. No traceback is shown for it.
    """
