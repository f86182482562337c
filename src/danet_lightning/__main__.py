"""`danet <verb> key=value ...` runs `python -m danet_lightning.<verb> key=value ...`."""

import ast
import runpy
import sys
from pathlib import Path

from danet_lightning.errors import nearest

USAGE = "danet <verb> key=value ...      danet <verb> --help explains one"


def main() -> None:
    """Run a verb as the main module, so that Lightning's other processes start the same one."""
    verb, *rest = sys.argv[1:] or ["--help"]
    known = verbs()
    if verb in {"-h", "--help"}:
        print(USAGE, *(f"  {name:<10} {what}" for name, what in known.items()), sep="\n")
        return
    if verb not in known:
        listed = ", ".join(known)
        print(
            f"danet: no verb {verb!r}{nearest(verb, list(known))} Verbs: {listed}", file=sys.stderr
        )
        sys.exit(2)
    sys.argv[:] = [f"{sys.argv[0]} {verb}", *rest]
    sys.path.insert(0, "")  # this folder, as python -m has it: a config may name your own modules
    runpy.run_module(f"danet_lightning.{verb}", run_name="__main__", alter_sys=True)


def verbs() -> dict[str, str]:
    """The modules that are launched as commands, with the first line of their docstrings."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*/__main__.py")):
        text = file.read_text(encoding="utf-8")
        found[file.parent.name] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return found


if __name__ == "__main__":
    main()
